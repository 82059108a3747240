"""``python -m benchmarks speed|learning [case ...]``."""

from __future__ import annotations

import argparse

from benchmarks import learning, speed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, module in (("speed", speed), ("learning", learning)):
        sub = kinds.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        sub.add_argument("cases", nargs="*", metavar="case", help=f"all unless named: {', '.join(module.CASES)}")
        if module is speed:
            sub.add_argument("--repeats", type=int, default=5, help="interleaved repetitions of each case")
    arguments = parser.parse_args()
    module = {"speed": speed, "learning": learning}[arguments.kind]
    unknown = set(arguments.cases) - set(module.CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; choose from {', '.join(module.CASES)}")
    options = {"repeats": arguments.repeats} if arguments.kind == "speed" else {}
    module.run(arguments.cases or list(module.CASES), **options)


if __name__ == "__main__":
    main()
