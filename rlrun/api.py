"""rlrun from Python: ``rlrun.train`` and ``rlrun.load``, as ``rlrun.__init__`` offers them.

Errors are those of ``rlrun.errors``, each with the line that the command would print.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rlrun import env_ids
from rlrun.cli.arguments import take_imports
from rlrun.cli.playing import blamed_on_config, checkpoint_of, open_to_play
from rlrun.config import RunConfig
from rlrun.errors import SIGNAL_BASE, UsageError
from rlrun.hardware import threads_put_back
from rlrun.metrics import METRICS, read_episodes, read_rows
from rlrun.policy import TrainedPolicy as TrainedPolicy
from rlrun.run import Run

_training = threading.Lock()


class TrainedRun:
    """A run that ``train`` has trained, as its directory holds it now."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def directory(self) -> Path:
        """What the commands take, too: ``rlrun eval DIRECTORY``."""
        return self._run.directory

    @property
    def config(self) -> RunConfig:
        """All settings."""
        return self._run.config

    @property
    def status(self) -> str:
        """``finished``, ``stopped`` or ``failed``."""
        return str(self._run.manifest["status"])

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The last evaluation: ``return_mean``, ``return_std``, ``return_iqm``, ...; None if there was none."""
        return _mapping(self._run.manifest["evaluation"])

    @property
    def best(self) -> dict[str, Any] | None:
        """The best evaluation, whose weights ``policy()`` has; None if there was none."""
        return _mapping(self._run.manifest.get("best"))

    def metrics(self, type: str | None = None) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, or those of one type, ``train`` or ``evaluation``. ``pandas.DataFrame`` takes them."""
        rows = read_rows(self.directory / METRICS)
        return [row for row in rows if type is None or row.get("type") == type]

    def episodes(self) -> dict[str, NDArray[Any]]:
        """Every training episode: arrays ``frames``, ``return`` and ``length``."""
        return read_episodes(self.directory)

    def policy(self, checkpoint: str | int | None = None) -> TrainedPolicy:
        """The greedy policy of the best checkpoint, of ``last``, or of a number of frames. Raises ResumeError: there is none."""
        return TrainedPolicy(self._run, checkpoint_of(self._run, None if checkpoint is None else str(checkpoint)))

    def __repr__(self) -> str:
        return f"<{self.status} run {self.directory}>"


def train(overrides: Sequence[str] | str = (), *, quiet: bool = False) -> TrainedRun | list[TrainedRun]:
    """Train, as ``rlrun OVERRIDES`` does: ``rlrun.train("algo=ppo env=pendulum seed=3")``, or a list of such words.

    Args:
        overrides: settings; ``-m`` for a sweep; ``--config-dir=DIR``.
        quiet: print nothing.

    Returns:
        The ``TrainedRun``; of a sweep a list of them, in the order of its jobs.

    Raises:
        RlrunError: what the command would print, by the classes in ``rlrun.errors``: UsageError, EnvironmentFailure, ...
        KeyboardInterrupt, SystemExit: a signal stopped it; the checkpoint is saved, and ``rlrun resume`` goes on.
    """
    from rlrun.cli.train import train_from_python

    with _alone(), _adding_imports(), threads_put_back():
        runs, is_sweep, code = train_from_python(_words(overrides), quiet)
    if code == SIGNAL_BASE + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)
    for run in runs:
        run.reread()
    trained = [TrainedRun(run) for run in runs]
    return trained if is_sweep else trained[0]


def load(
    run: str | os.PathLike[str],
    checkpoint: str | int | None = None,
    *,
    outputs: str | os.PathLike[str] = "outputs",
    overrides: Sequence[str] = (),
) -> TrainedPolicy:
    """The greedy policy of a run, to call on observations.

    Args:
        run: its directory, the beginning of its name in ``outputs``, or ``latest``.
        checkpoint: ``best``, ``last`` or a number of frames; None: the best, if there is one.
        overrides: settings that are not stored because they are secret, and ``env.allow_import=MODULE``, as ``rlrun eval`` takes them.

    Raises:
        RlrunError: there is no such run or checkpoint, or it is damaged (ResumeError); the environment can't be made.
    """
    wanted = None if checkpoint is None else str(checkpoint)
    with _adding_imports():
        secrets = take_imports(_words(overrides))
        opened, chosen = open_to_play(
            _text_of(run, "run"), Path(_text_of(outputs, "outputs")), wanted, None, secrets, "rlrun.load"
        )
    try:
        return TrainedPolicy(opened, chosen)
    except UsageError as error:
        raise blamed_on_config(opened, error) from error


def _words(overrides: Sequence[str] | str) -> list[str]:
    if isinstance(overrides, str):
        try:
            return shlex.split(overrides)
        except ValueError as error:
            raise UsageError(f"overrides {overrides!r:.80}: {error}; check its quotes, or give a list") from error
    if isinstance(overrides, list | tuple) and all(isinstance(word, str) for word in overrides):
        return list(overrides)
    raise UsageError(f"overrides {overrides!r:.80}: give one text or a list of texts, as in ['algo=ppo', 'seed=3']")


def _text_of(path: str | os.PathLike[str], what: str) -> str:
    if isinstance(path, str | os.PathLike) and isinstance(text := os.fspath(path), str):
        return text
    raise UsageError(f"{what} {path!r:.80}: give a text or a path, as in rlrun.load('latest')")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hydra, signals and threads are the whole process's. Raises UsageError: another training is under way in it."""
    if not _training.acquire(blocking=False):
        raise UsageError("another rlrun.train is under way in this process; wait for it, or use a process of its own")
    try:
        yield
    finally:
        _training.release()


@contextlib.contextmanager
def _adding_imports() -> Iterator[None]:
    """Modules that may be imported stay so: the policies of earlier calls make environments, too."""
    before = env_ids.allowed_imports()
    try:
        yield
    finally:
        env_ids.allow_imports({*before, *env_ids.allowed_imports()})


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
