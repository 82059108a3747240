"""Every error a user can cause, with the exit code it ends the process with. Anything else is a bug of ours (exit 70)."""

from __future__ import annotations


class RlrunError(Exception):
    """Base class: ``str(error)`` is the one line the user reads; ``exit_code`` is what a script reads."""

    exit_code = 70


class UsageError(RlrunError):
    """A wrong command line or config. One line per problem, joined with newlines."""

    exit_code = 2


class UnavailableError(RlrunError):
    """Something this machine lacks: an optional package, an environment's package, a device."""

    exit_code = 3


class ResumeError(RlrunError):
    """A run directory or checkpoint that cannot be used."""

    exit_code = 4


class StorageError(RlrunError):
    """No space, no permission, no memory."""

    exit_code = 5


class LostFileError(StorageError):
    """A run, or a file of it, was deleted under our hands: it can't be resumed."""


class DivergedError(RlrunError):
    """A loss, a gradient or a weight stopped being finite."""

    exit_code = 6


class EnvironmentFailure(RlrunError):
    """The environment raised, or broke the contract of its own spaces."""

    exit_code = 7


class LockedError(RlrunError):
    """Another process is using the run."""

    exit_code = 8


class SweepError(RlrunError):
    """A sweep ended with failed members."""

    exit_code = 9


DIFFERENT = 10
"""The exit code of a command that has done its work and found that two runs are not the same."""

SIGNAL_BASE = 128
"""The exit code of a process that a signal ended is this and the signal's number, as shells have it."""


PASSING = (KeyboardInterrupt, MemoryError)
"""What is no failure of the environment that it comes out of: a signal is the user's, memory everybody's.

Whatever else comes out of one is: libraries raise things that are no ``Exception``, such as ``asyncio.CancelledError``.
"""


def as_storage_error(error: BaseException) -> StorageError | None:
    """What the user reads if ``error`` says that memory ran out, in Python, NumPy or PyTorch; else None."""
    text = _text(error)
    # By name and text: this module imports no torch, and its CPU allocator raises a plain RuntimeError.
    if not (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in text)
        or (isinstance(error, ValueError) and text.startswith(("array is too big", "Maximum allowed dimension")))
    ):
        return None
    reason = text.splitlines()[0].rstrip(".") if text else "no reason given"
    return StorageError(
        f"out of memory: {reason}. Make smaller what is largest: algo.buffer_size (dqn), "
        "algo.rollout_steps (ppo), algo.num_envs, algo.batch_size or network.hidden"
    )


def _text(error: BaseException) -> str:
    """``str(error)``, or nothing if that raises: whose code it is may be anyone's."""
    try:
        return str(error)
    except Exception:
        return ""


def one_line(error: BaseException) -> str:
    """An exception as ``Type: message``, on one line of bounded length, without secrets: one that is cut is known no more."""
    from rlrun.provenance import clean  # now: most processes never need it

    message = " ".join(clean(_text(error)).split())
    return f"{type(error).__name__}: {message}"[:300].removesuffix(": ")


def internal_error(error: BaseException, advice: str) -> RlrunError:
    """One line for an error that is no user's fault; ``advice`` says where its traceback is."""
    return RlrunError(" ".join(f"internal error: {one_line(error)} ({advice})".split()))


def in_users_terms(error: BaseException) -> RlrunError:
    """``error`` as the line and exit code that the user gets."""
    if isinstance(error, RlrunError):
        return error
    return as_storage_error(error) or internal_error(error, "RLRUN_DEBUG=1 shows the traceback")
