"""A look, now and then, at whether an environment still comes back.

An environment that hangs can't be interrupted safely, so the process ends; what the last checkpoint holds is not lost.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from rlrun import envs, envstate, manners
from rlrun.errors import EnvironmentFailure, RlrunError
from rlrun.interrupts import SHOW_CURSOR
from rlrun.plain import printable
from rlrun.rollout import Environments
from rlrun.torchrl_engine.guard import Guarded

_STEPPING = {
    *(Environments._step_all.__code__, Environments._reset.__code__),
    *(Guarded.step.__code__, Guarded.reset.__code__),
}
_TRYING = {
    envs.make.__code__: "when it was made",
    envs.probe.__code__: "in its first steps",
    envstate.exactness.__code__: "in its first steps",
    envstate.capture.__code__: "when its state was read",
    Environments.picture.__code__: "when it was drawn",
    envstate.restore.__code__: "when its state was restored",
    manners.close.__code__: "when it was closed",
}
_LOOKS = 20  # within the time allowed
_DEBUGGERS = ("pdb", "bdb")

Record = Callable[[int | None, EnvironmentFailure], RlrunError]


@contextlib.contextmanager
def watching(env: str, seconds: float | None, record: Record = lambda agent, failure: failure) -> Iterator[None]:
    """End the process with exit code 7 if an environment does not come back for ``seconds``; None: wait for ever.

    ``record`` is told the agent whose environment it is, if it is known, and why; it returns what the user reads. Costs training
    nothing: a thread looks at where the calling one is. A stopped process (Ctrl-Z) and a debugger's prompt do not count.
    """
    with manners.staying(env):
        if seconds is None:
            yield
            return
        over = threading.Event()
        watched = threading.get_ident()
        thread = threading.Thread(target=_watch, args=(over, watched, env, seconds, record), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _watch(over: threading.Event, watched: int, env: str, seconds: float, record: Record) -> None:
    before, looks = None, 0
    while not over.wait(seconds / _LOOKS):  # looks are counted and not seconds: the process may have been stopped
        place = _place(sys._current_frames().get(watched))
        looks = looks + 1 if place is not None and place == before else 0
        before = place
        if place is not None and looks >= _LOOKS:
            agent, call, _ = place
            failure = f"env {env} did not come back within {seconds:g} s {call}"
            _end(agent, EnvironmentFailure(f"{failure}; mend it, or allow more: env.step_timeout=N"), record)


def _place(frame: FrameType | None) -> tuple[int | None, str, list[int]] | None:
    """An environment's agent, the call that it is in, and numbers that tell this call from any other; None outside of one."""
    agent, call, numbers = None, "", []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module in _DEBUGGERS:
            return None
        if module.startswith("rlrun."):
            values = frame.f_locals
            numbers += [frame.f_lineno, *(value for value in values.values() if type(value) is int)]
            if frame.f_code in _STEPPING and "index" in values:
                agent, step, who = values["self"].whereabouts(values["index"])
                call = f"from {'reset' if frame.f_code.co_name.endswith('reset') else 'step'} at {who}"
                numbers.append(step)
            elif frame.f_code in _TRYING and not call:
                call = _TRYING[frame.f_code]
        frame = frame.f_back
    return (agent, call, numbers) if call else None


def _end(agent: int | None, failure: EnvironmentFailure, record: Record) -> None:
    """Say and record it, and leave: the environment holds the main thread."""
    if os.environ.get("RLRUN_DEBUG") == "1":
        faulthandler.dump_traceback()
    said: RlrunError = failure
    with contextlib.suppress(Exception):
        said = record(agent, failure)
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, SHOW_CURSOR)
        os.write(2, f"rlrun: error: {printable(said)}\n".encode())
    os._exit(failure.exit_code)
