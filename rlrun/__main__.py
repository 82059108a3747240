"""The command ``rlrun``, also as ``python -m rlrun``. Ctrl-C is one line even while the rest is being imported."""

import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        from rlrun.interrupts import ignore_wishes

        ignore_wishes()  # first: SIGUSR1 would end us while the rest is being imported
        from rlrun.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("rlrun: interrupted", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder: what lies there is not to be taken for a module
    sys.exit(main())
