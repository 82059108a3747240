"""What the processes that rlrun starts have in common: an output that is theirs alone, and an end at once."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TextIO

from rlrun.provenance import clean


def claim_output() -> TextIO:
    """Stdout for our lines alone: what an environment or a tool prints goes to stderr, into a log."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def log_traceback() -> None:
    """Of the error that is being handled, to stderr."""
    with contextlib.suppress(OSError):  # the disk may be full
        sys.stderr.write(clean(traceback.format_exc()))
        sys.stderr.flush()


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """End at once: threads that an environment has left behind, a driver, or hooks of tools would keep the interpreter alive."""
    code = 1
    try:
        code = main()
    except BaseException:
        log_traceback()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
