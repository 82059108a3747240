"""Which loggers a run that is gone on with has: those that are typed, or its own where they are the user's."""

from __future__ import annotations

from collections.abc import Sequence

from rlrun.cli.output import say, shown_path, warn
from rlrun.run import Run
from rlrun.tracking import check_installed, missing


def names_loggers(overrides: Sequence[str]) -> bool:
    """Whether loggers were typed, who are to get also what has been finished."""
    return any(override.startswith("logger=") for override in overrides)


def loggers_to_use(loggers: Sequence[str], typed: bool, is_own: bool) -> tuple[str, ...]:
    """Those of ``loggers`` that are to get the metrics now, with a note on each that is left out.

    What a run stores is no wish of whoever resumes it: in a directory that is not theirs alone (``is_own``) nothing is sent
    anywhere unless it is ``typed``, and a package that is missing here keeps no run from going on.

    Raises:
        UnavailableError: one that is typed is not installed.
    """
    if typed:
        check_installed(loggers)
        return tuple(loggers)
    if loggers and not is_own:
        text = loggers[0] if len(loggers) == 1 else f"[{','.join(loggers)}]"
        warn(f"logger={text} is left out, as others can write to the run; type it to send the metrics there")
        return ()
    lacking = missing(loggers)
    for line in lacking.values():
        warn(f"{line}; left out")
    return tuple(name for name in loggers if name not in lacking)


def send_finished(runs: Sequence[Run]) -> None:
    """Give what finished runs have recorded to their loggers."""
    from rlrun.tracking.tracking import send

    complete = send(runs, lambda line: say(f"note: {line}"))
    if complete:
        what = shown_path(runs[0].directory) if len(runs) == 1 else f"{len(runs)} finished runs"
        say(f"sent to {' and '.join(complete)}: all that {what} recorded")
