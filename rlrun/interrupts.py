"""Signals that end a run, or ask it for a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from rlrun.errors import SIGNAL_BASE

SHOW_CURSOR = b"\x1b[?25h"
_MOMENT = 0.01  # seconds


def ignore_wishes() -> None:
    """From now on SIGUSR1, which would end the process, does nothing where no checkpoint can be saved."""
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


class _Caught:
    """Signals that are handled within, if this is the main thread. The first of them is ``signal``."""

    SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    SECONDS_OF_ONE = 1.0

    def __init__(self) -> None:
        self.signal: int | None = None

    def stop(self, number: int) -> None:
        """Raise the flag, as if signal ``number`` had come."""
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()

    def __enter__(self) -> Self:
        numbers = self.SIGNALS if threading.current_thread() is threading.main_thread() else ()
        # What is ignored stays so: nohup, and shells that start in the background, rely on it.
        ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
        caught = [number for number in numbers if number not in ignored or number == signal.SIGUSR1]
        self._before = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _is_repeated(self) -> bool:
        """Whether the signal that has come now is to be taken for the first one: a bouncing key, or a terminal that closes."""
        return self.signal is not None and time.monotonic() - self._since < self.SECONDS_OF_ONE

    def _handle(self, number: int, _: FrameType | None) -> None:
        raise NotImplementedError


class Unwound(KeyboardInterrupt):
    """A kind of its own: after a plain one that has passed through ``exec``, ``python -m`` ends by SIGINT, whatever came."""


class Unwinding(_Caught):
    """Turns SIGINT, SIGTERM and SIGHUP into a KeyboardInterrupt, so that whatever is being made is tidied up.

    Libraries make errors of their own of that: an error that comes out when there is a ``signal`` is no other.
    """

    def __enter__(self) -> Self:
        self._hook, sys.unraisablehook = sys.unraisablehook, self._once_more
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        sys.unraisablehook = self._hook

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._is_repeated():
            self.stop(number)
            raise Unwound

    def _once_more(self, dropped: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in a callback of its own, as while it imports: the signal comes again, a moment later."""
        if isinstance(dropped.exc_value, Unwound) and self.signal is not None:
            again, self.signal = self.signal, None
            threading.Timer(_MOMENT, os.kill, (os.getpid(), again)).start()
        else:
            self._hook(dropped)


class Interrupts(_Caught):
    """Turns the first SIGINT, SIGTERM or SIGHUP into a flag; a later one ends the process at once.

    Within a second of the first they count as one: a bouncing key, or a terminal that closes, must not lose the run.
    SIGUSR1, which schedulers send some time before the end, asks for a checkpoint, and training goes on.
    """

    SIGNALS = (*_Caught.SIGNALS, signal.SIGUSR1)

    def __init__(self) -> None:
        super().__init__()
        self.save_wanted = False
        self.abandon: Callable[[], object] = lambda: None  # called before a later one ends the process

    def __call__(self) -> bool:
        return self.signal is not None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.save_wanted = True
        elif self.signal is None:
            self.stop(number)
            with contextlib.suppress(OSError):  # os.write: Python's own streams may be in the middle of a line
                if os.isatty(2):
                    os.write(2, b"\nrlrun: stopping after this step, saving ...; again to abandon\n")
        elif not self._is_repeated():
            self.abandon()
            with contextlib.suppress(OSError):
                if os.isatty(1):
                    os.write(1, SHOW_CURSOR)  # a live view hides it
            os._exit(SIGNAL_BASE + number)
