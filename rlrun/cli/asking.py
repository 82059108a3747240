"""Asking before something is deleted."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rlrun.cli.output import deliver, deliver_line, say
from rlrun.errors import UsageError
from rlrun.plain import printable


def require_someone(yes: bool) -> None:
    """Raises UsageError if nobody is there who could be asked, and nobody said yes beforehand."""
    if not yes and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on; type --yes to do it without a question, or --dry-run to look")


def teller(asks: bool) -> Callable[[str], None]:
    """How to say what will be deleted: to somebody who is asked about it, or as a log, and that nobody reads it stops nothing."""
    return deliver_line if asks else say


def confirmed(question: str, yes: bool) -> bool:
    """Whether it may be done: ``yes`` was typed before, or is the answer now."""
    if yes:
        return True
    deliver(f"{printable(question)} [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
