"""Signals in places where Python drops what a handler raises."""

from __future__ import annotations

import gc
import signal
import sys
import time
import weakref

import pytest

from rlrun.interrupts import Unwinding, Unwound


class Anything:
    """What a weak reference can be made of."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_callback_of_pythons_own_is_not_lost(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before, anything = sys.unraisablehook, Anything()
    with Unwinding() as unwinding, pytest.raises(Unwound):
        reference = weakref.ref(anything, lambda _: signal.raise_signal(number))
        del anything
        gc.collect()
        for _ in range(1000):
            time.sleep(0.01)
    assert reference() is None and unwinding.signal == number
    assert sys.unraisablehook is before and capfd.readouterr().err == ""
