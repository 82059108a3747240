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
