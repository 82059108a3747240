"""``python -m benchmarks speed|table|profile|learning|reading|reliability``: see benchmarks/README.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks import learning, profiling, reading, speed
from benchmarks.cases import PRESETS
from benchmarks.reliability import report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    timed = kinds.add_parser("speed", help="measure rlrun beside its peers")
    _add_cases(timed, speed.NAMES)
    timed.add_argument("--repeats", type=_positive, default=5, help="interleaved repetitions of each case")
    timed.add_argument(
        "--extrapolate",
        action="store_true",
        help=f"time {speed.EXTRAPOLATED_RUNS} of a sweep's runs of a peer and multiply; the table says so",
    )
    timed.add_argument("--quick", action="store_true", help="short runs, to see that everything works; stores nothing")
    kinds.add_parser("table", help="print what is stored, as Markdown")
    profiled = kinds.add_parser("profile", help="where the time of a case goes")
    profiled.add_argument("case", choices=tuple(PRESETS))
    profiled.add_argument("--frames", type=_positive, help="frames of each agent")
    profiled.add_argument("--agents", type=_positive, default=1, help="agents trained together")
    learned = kinds.add_parser("learning", help="what rlrun's settings learn")
    _add_cases(learned, tuple(learning.CASES))
    read = kinds.add_parser("reading", help="time commands that read a thousand runs, and a report in a browser")
    read.add_argument("--repeats", type=_positive, default=5, help="of each command")
    storms = kinds.add_parser("reliability", help="kill, damage and disturb runs; they must end as if nothing had been")
    _add_cases(storms, report.NAMES)
    storms.add_argument("--runs", type=_positive, help="size of each storm (see RUNS in its file)")
    storms.add_argument("--seed", type=int, default=0, help="of what is left to chance")
    arguments = parser.parse_args()
    match arguments.kind:
        case "speed":
            names = _chosen(parser, arguments.cases, speed.NAMES)
            speed.run(names, arguments.repeats, arguments.extrapolate, arguments.quick)
        case "table":
            speed.print_tables()
        case "profile":
            profiling.run(arguments.case, arguments.frames, arguments.agents)
        case "learning":
            learning.run(_chosen(parser, arguments.cases, tuple(learning.CASES)))
        case "reading":
            reading.run(arguments.repeats)
        case "reliability":
            if not report.run(_chosen(parser, arguments.cases, report.NAMES), arguments.runs, arguments.seed):
                raise SystemExit(1)


def _positive(text: str) -> int:
    number = int(float(text))  # 1e5 as in rlrun
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _add_cases(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    parser.add_argument("cases", nargs="*", metavar="case", help=f"all unless named: {', '.join(names)}")


def _chosen(parser: argparse.ArgumentParser, cases: Sequence[str], names: Sequence[str]) -> list[str]:
    unknown = set(cases) - set(names)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    return list(cases or names)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the case at work is not stored; those finished before it are") from None
