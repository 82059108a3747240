"""A run on disk: its directory, config, manifest (``run.json``) and lock; how runs are made and opened.

Everything read here may come from another person, so it is plain data, checked, and never executed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlrun.checkpoint_names import CHECKPOINTS, steps_in, tells_of_steps
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.errors import LostFileError, ResumeError, StorageError, UsageError
from rlrun.finding import no_run, runs_in
from rlrun.locks import lock
from rlrun.manifest import MANIFEST, first_manifest, read_manifest, timestamp
from rlrun.plain import printable, read_yaml, reason_of, sync_directory, to_yaml, write_atomically
from rlrun.provenance import clean

_CONFIG = "config.yaml"
FOLDERS = (CHECKPOINTS, "plots", "videos", "exports", "tensorboard", "wandb")
"""What may be made within a run's directory, or a sweep's, besides files."""
PAGE = "report.html"
"""What ``rlrun report`` writes there."""


@dataclass
class Run:
    """One agent's run. ``manifest`` is what run.json holds; change it through ``update`` only."""

    directory: Path
    config: RunConfig
    manifest: dict[str, Any]

    @classmethod
    def create(
        cls, config: RunConfig, manifest: dict[str, Any], sweep: Path | None = None, directory: Path | None = None
    ) -> Run:
        """Make ``<outputs>/<date>/<time>_<label>_s<seed>`` (or that name in ``sweep``) with config and manifest.

        Date and time are UTC; a clash gets a counter, never a shared directory. ``manifest`` adds to run.json. In a sweep it is
        whoever makes many who sees to it that they are on the disk. ``directory`` is one that exists, for the run instead.

        Raises:
            StorageError: the place can't be written to; nothing of a directory made for the run is left.
        """
        now = datetime.now(UTC)
        parent = place_within(Path(config.outputs), f"{now:%Y-%m-%d}") if sweep is None else sweep
        label = clean(config.name or f"{config.algo.name}_{config.env.name or config.env.id}")
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:100]
        given = directory is not None
        if directory is None:
            directory = make_directory(parent, f"{now:%H%M%S}_{label}_s{config.seed}")
        run = cls(directory, config, clean(first_manifest(directory, config, now) | manifest))
        try:
            _make_folder(directory / CHECKPOINTS)
            write_atomically(directory / _CONFIG, to_yaml(clean(to_mapping(config))), durably=sweep is None)
            run._write(durably=sweep is None)  # last: a directory with a run.json is a run
        except StorageError:
            if not given:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        return run

    @classmethod
    def open(cls, directory: Path, config: RunConfig | None = None) -> Run:
        """The run in ``directory``, which may come from anywhere; with ``config`` in place of the one saved there.

        Raises:
            ResumeError: no run there, or one whose manifest or config is not what rlrun writes.
        """
        if not os.path.lexists(directory / MANIFEST):
            if os.path.isdir(directory):
                within = "; it holds some, name one of them" if any(runs_in(directory)) else ""
                raise ResumeError(f"{printable(directory)} is not an rlrun run (it has no {MANIFEST}){within}")
            raise no_run(str(directory), runs_in(directory.parent))
        manifest = read_manifest(directory)
        if not os.path.lexists(directory / _CONFIG):
            raise ResumeError(f"{printable(directory)} has lost its {_CONFIG}; put it back, or start a new run")
        if config is not None:
            return cls(directory, config, manifest)
        values = read_yaml(directory / _CONFIG)
        try:
            return cls(directory, from_mapping(values), manifest)
        except UsageError as error:
            problems = "; ".join(printable(line) for line in str(error).splitlines())
            raise ResumeError(f"{printable(directory / _CONFIG)}: {problems}") from error

    @property
    def checkpoints(self) -> Path:
        """The folder for the run's checkpoints."""
        return self.directory / CHECKPOINTS

    def has_checkpoint(self) -> bool:
        """Whether there is one to continue from. Raises ResumeError: as ``newest_checkpoint``."""
        return self.newest_checkpoint() is not None

    def newest_checkpoint(self) -> int | None:
        """The frames of the newest one, as far as names tell; None: there is none. Raises ResumeError: the folder can't be read."""
        return max((frames for frames, _ in steps_in(self._checkpoint_names())), default=None)

    def has_begun(self) -> bool:
        """Whether to start it over would lose what was trained: it has come to a checkpoint, though that may be damaged now.

        Raises:
            ResumeError: the folder of its checkpoints can't be read.
        """
        return self.manifest["status"] == "finished" or any(map(tells_of_steps, self._checkpoint_names()))

    def _checkpoint_names(self) -> list[str]:
        try:
            return os.listdir(self.checkpoints)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ResumeError(f"can't read {printable(self.checkpoints)}: {reason_of(error)}") from error

    def reread(self) -> None:
        """Take ``manifest`` anew from the disk, where another process wrote it. Raises ResumeError."""
        self.manifest = read_manifest(self.directory)

    def update(self, **fields: Any) -> None:
        """Set ``fields`` in run.json, atomically. nan and inf become null, secrets ``***``.

        Raises:
            StorageError: it can't be written; LostFileError: the directory is not the run's any more.
        """
        if not any(os.path.lexists(self.directory / name) for name in (MANIFEST, _CONFIG)):
            raise LostFileError(f"{printable(self.directory)} is gone: it was moved or deleted meanwhile")
        self.manifest |= clean(fields)
        self._write(durably=True)

    def _write(self, durably: bool) -> None:
        self.manifest["updated"] = timestamp(datetime.now(UTC))
        text = json.dumps(self.manifest, indent=2, allow_nan=False) + "\n"
        write_atomically(self.directory / MANIFEST, text.encode(), durably=durably)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run as it was read, so that no other process trains it. The system frees it when the process ends, however it ends.

        Raises:
            LockedError: another process (or this one) holds it.
            ResumeError: another process has written to it since it was read, or damaged it.
            StorageError: the lock file can't be made.
        """
        with lock(self.directory):
            before = self.manifest["updated"]
            self.reread()
            if self.manifest["updated"] != before:
                raise ResumeError(f"another process has changed {printable(self.directory)} meanwhile; try again")
            yield


def require_own(directory: Path, otherwise: str) -> None:
    """Refuse to go on in a directory that others can change while we work in it. ``otherwise``: what one may type as well.

    Raises:
        ResumeError: everybody can write there, or it is another user's.
    """
    reason = why_not_own(directory)
    if reason is not None:
        raise ResumeError(f"{reason}, or type {otherwise}")


def why_not_own(directory: Path) -> str | None:
    """Why others can change a directory while we work in it, and what to do; None: they can't."""
    status = os.stat(directory)
    where = shlex.quote(printable(directory))
    if status.st_uid != os.geteuid():
        return f"{where} belongs to another user; copy it (cp -r) and resume the copy"
    if status.st_mode & stat.S_IWOTH:
        return f"everybody can write to {where}; type chmod -R o-w {where}"
    return None


# --- directory -------------------------------------------------------------------------------------------------------


def place_within(outputs: Path, name: str) -> Path:
    """The folder of a day, or of sweeps, in ``outputs``, which may be a link of the user's.

    Raises:
        StorageError: it is a link there: others may have planted it, and no command would find what is behind.
    """
    folder = outputs / name
    if folder.is_symlink():
        raise StorageError(
            f"{printable(folder)} is a symbolic link; put a folder in its place, or choose another: outputs=DIR"
        )
    return folder


def make_directory(parent: Path, name: str) -> Path:
    """A new directory ``name`` or ``name-1``, ``name-2``, ... in ``parent``. Raises StorageError."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _cannot_create(parent, error) from error
    for number in itertools.count():
        directory = parent / (f"{name}-{number}" if number else name)
        if _make_folder(directory):
            break
    with contextlib.suppress(OSError):  # some file systems can't; a power loss may then cost a run that has just begun
        sync_directory(parent)
        sync_directory(parent.parent)
    return directory


def own_folder(directory: Path, name: str) -> Path:
    """The folder ``name`` within a run's directory or a sweep's, made if it is not there; the directory itself is not made anew.

    Raises:
        StorageError: it can't be made, or is a link: what comes from others must not make us write elsewhere.
    """
    folder = directory / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError as error:
        raise StorageError(f"{printable(directory)} is gone: it was moved or deleted meanwhile") from error
    except OSError as error:
        raise cannot_make(folder, error) from error
    if folder.is_symlink():
        raise StorageError(
            f"{printable(folder)} is a symbolic link; put a folder in its place, or choose another: -o DIR"
        )
    return folder


def cannot_make(folder: Path, error: OSError | ValueError) -> StorageError:
    """What the user reads if a folder for figures, videos and the like can't be made."""
    reason = reason_of(error) if isinstance(error, OSError) else str(error)
    return StorageError(f"can't make {printable(folder)}: {reason}; choose another: -o DIR")


def claim_directory(directory: Path) -> None:
    """Make ``directory`` if it does not exist. Raises StorageError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StorageError(f"run.dir={printable(directory)} is a file; choose another place") from None
    except OSError as error:
        raise StorageError(f"can't create run.dir={printable(directory)}: {reason_of(error)}") from error


def _make_folder(directory: Path) -> bool:
    """False if it exists. Raises StorageError."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except (OSError, ValueError) as error:
        raise _cannot_create(directory.parent, error) from error
    return True


def _cannot_create(place: Path, error: Exception) -> StorageError:
    reason = reason_of(error) if isinstance(error, OSError) else str(error)
    return StorageError(f"can't create {printable(place)}: {reason}. Choose another place: outputs=DIR")
