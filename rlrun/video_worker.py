"""``python -m rlrun.video_worker``: play greedy episodes and film them, in a process of its own that may die without harm to others.

It reads one line of JSON, what to film, from stdin, writes only into the folder named there, and answers with lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import traceback
from typing import Any, NoReturn, TextIO

from rlrun.env_ids import allow_imports
from rlrun.errors import RlrunError, in_users_terms
from rlrun.filming import film
from rlrun.interrupts import ignore_wishes
from rlrun.provenance import clean, remember
from rlrun.watchdog import watching

_SECONDS_BETWEEN_EVENTS = 0.2


class _Orphaned(Exception):
    """Whoever wanted the video has gone."""


def main() -> int:
    """Film what stdin describes."""
    ignore_wishes()
    stream = _claim_output()
    request = json.loads(sys.stdin.readline())
    remember(request["secrets"])
    allow_imports(request["imports"])

    def say(**event: Any) -> None:
        print(json.dumps(event), file=stream, flush=True)

    def fail(error: RlrunError) -> None:
        say(error=str(error), code=error.exit_code)

    said = 0.0

    def progress(pictures: int) -> None:
        nonlocal said
        if os.getppid() != request["parent"]:
            raise _Orphaned
        if time.monotonic() - said >= _SECONDS_BETWEEN_EVENTS:
            said = time.monotonic()
            say(progress=pictures)

    env = request["config"]["env"]
    try:
        with watching(env["id"], env["step_timeout"], lambda agent, failure: fail(failure)):
            say(**film(request, progress))
    except _Orphaned:
        shutil.rmtree(request["work"], ignore_errors=True)
        return 1
    except Exception as error:
        fail(in_users_terms(error))
        _log_traceback()
    return 0


def _log_traceback() -> None:
    with contextlib.suppress(OSError):  # the disk may be full
        sys.stderr.write(clean(traceback.format_exc()))
        sys.stderr.flush()


def _claim_output() -> TextIO:
    """Stdout for our answers alone: what an environment prints goes to stderr, into a log."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def _run_and_exit() -> NoReturn:
    """End at once: threads that an environment has left behind, or a driver, would keep the interpreter alive or crash it."""
    code = 1
    try:
        code = main()
    except BaseException:
        _log_traceback()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _run_and_exit()
