"""A run on disk: its directory, config, manifest (``run.json``) and lock; how runs are made, opened, found and listed.

Everything read here may come from another person, so it is plain data, checked, and never executed.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.errors import ResumeError, StorageError, UsageError
from rlrun.locks import is_locked, lock
from rlrun.plain import printable, read_json, read_yaml, reason_of, sync_directory, to_yaml, write_atomically
from rlrun.provenance import clean, git_state, machine, versions

__all__ = ["STATUSES", "Run", "find", "find_sweep", "list_runs", "make_directory", "printable", "runs_in"]

STATUSES = ("waiting", "running", "finished", "stopped", "failed")
UNENDED = ("waiting", "running")

SWEEPS, SWEEP_LIST = "sweeps", "sweep.json"
SAME_BITS = "the same bits"
"""What run.json says under ``alone`` of a run whose bits do not depend on those it is trained with."""

MANIFEST, _CONFIG, _CHECKPOINTS = "run.json", "config.yaml", "checkpoints"
_REQUIRED = {
    **dict.fromkeys(("id", "status", "created", "updated", "algo", "env", "env_id", "name", "device"), str),
    **dict.fromkeys(("seed", "total_frames", "frames"), int),
    "frames_per_second": int | float | None,
    "evaluation": dict | None,
}


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
        parent = Path(config.outputs, f"{now:%Y-%m-%d}") if sweep is None else sweep
        label = clean(config.name or f"{config.algo.name}_{config.env.name or config.env.id}")
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:100]
        given = directory is not None
        if directory is None:
            directory = make_directory(parent, f"{now:%H%M%S}_{label}_s{config.seed}")
        run = cls(directory, config, clean(_first_manifest(directory, config, now) | manifest))
        try:
            _make_folder(directory / _CHECKPOINTS)
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
                raise ResumeError(f"{printable(directory)} is not an rlrun run (it has no {MANIFEST})")
            raise _no_run(str(directory), runs_in(directory.parent))
        manifest = _read_manifest(directory)
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
        return self.directory / _CHECKPOINTS

    def has_checkpoint(self) -> bool:
        """Whether there is one to continue from, as far as names tell."""
        return any(self.checkpoints.glob("step_*.ckpt"))

    def has_begun(self) -> bool:
        """Whether to start it over would lose what was trained: it has come to a checkpoint, though that may be damaged now."""
        return self.manifest["status"] == "finished" or any(self.checkpoints.glob("step_*.ckpt*"))

    def reread(self) -> None:
        """Take ``manifest`` anew from the disk, where another process wrote it. Raises ResumeError."""
        self.manifest = _read_manifest(self.directory)

    def update(self, **fields: Any) -> None:
        """Set ``fields`` in run.json, atomically. nan and inf become null, secrets ``***``.

        Raises:
            StorageError: it can't be written.
        """
        self.manifest |= clean(fields)
        self._write(durably=True)

    def _write(self, durably: bool) -> None:
        self.manifest["updated"] = _timestamp(datetime.now(UTC))
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


# --- finding ---------------------------------------------------------------------------------------------------------


def find(selector: str, outputs: Path) -> Path:
    """The directory of the run meant by ``selector``: a path, how its name or ``<date>/<name>`` begins, or ``latest`` that has begun.

    Raises:
        UsageError: it fits several runs.
        ResumeError: it fits none.
    """
    if selector == "latest":
        begun = [run for run in list_runs(outputs) if run["status"] not in ("unreadable", "waiting")]
        if not begun:
            raise ResumeError(f"no run in {printable(outputs)} yet; start one with: rlrun")
        return Path(begun[0]["directory"])
    wanted = selector.rstrip("/")
    if not wanted:
        raise UsageError("which run? give its directory, the beginning of its name, or latest")
    if os.path.isdir(wanted) and os.path.lexists(os.path.join(wanted, MANIFEST)):
        return Path(wanted)
    names = {path: (path.name, _identity(path)) for path in _all_runs(outputs)}
    matches = [path for path, forms in names.items() if wanted in forms]
    matches = matches or [path for path, forms in names.items() if any(form.startswith(wanted) for form in forms)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        if os.path.isdir(wanted):
            raise ResumeError(f"{printable(wanted)} is not an rlrun run (it has no {MANIFEST})")
        if os.path.lexists(wanted):
            raise ResumeError(f"{printable(wanted)} is a file, not a run; give the directory of the run")
        raise _no_run(wanted, names)
    some = ", ".join(printable(_identity(path)) for path in sorted(matches)[:5])
    more = f" and {len(matches) - 5} more" if len(matches) > 5 else ""
    raise UsageError(f"'{printable(selector)}' fits {len(matches)} runs: {some}{more}; type more of the name")


def find_sweep(selector: str, outputs: Path) -> Path | None:
    """The directory of the sweep meant by ``selector``: a path, or how its name begins; None if it means none.

    Raises:
        UsageError: it fits several sweeps, or a sweep and runs beside.
    """
    wanted = selector.rstrip("/")
    if not wanted or selector == "latest":
        return None
    if os.path.isdir(wanted):
        return Path(wanted) if os.path.isfile(os.path.join(wanted, SWEEP_LIST)) else None
    sweeps = [path for path in _folders(outputs / SWEEPS) if os.path.lexists(path / SWEEP_LIST)]
    fits = [path for path in sweeps if path.name == wanted] or [path for path in sweeps if path.name.startswith(wanted)]
    runs = [path for path in _all_runs(outputs) if path.parent.parent.name != SWEEPS]
    others = [path for path in runs if path.name.startswith(wanted) or _identity(path).startswith(wanted)]
    if not fits or (len(fits) == 1 and not others):
        return fits[0] if fits else None
    some = ", ".join(printable(path.name) for path in sorted([*fits, *others])[:5])
    raise UsageError(
        f"'{printable(selector)}' fits {len(fits) + len(others)} sweeps and runs: {some}; type more of the name"
    )


def list_runs(outputs: Path) -> list[dict[str, Any]]:
    """The manifests of all runs in ``outputs``, newest first, each with its ``directory``.

    A manifest that can't be read becomes ``status`` unreadable with the reason in ``failure``; a run that says running
    while no process holds its lock becomes interrupted.
    """
    runs = []
    for directory in _all_runs(outputs):
        try:
            run = _read_manifest(directory)
        except ResumeError as error:
            run = {"id": _identity(directory), "status": "unreadable", "created": "", "failure": str(error)}
        if run["status"] == "running" and not is_locked(directory):
            run["status"] = "interrupted"
        runs.append(run | {"directory": str(directory)})
    return sorted(runs, key=lambda run: (run["created"], run["directory"]), reverse=True)


def _all_runs(outputs: Path) -> Iterator[Path]:
    for parent in itertools.chain([outputs], _folders(outputs), _folders(outputs / SWEEPS)):
        yield from runs_in(parent)


def runs_in(parent: Path) -> Iterator[Path]:
    """The directories of the runs directly in ``parent``."""
    return (directory for directory in _folders(parent) if os.path.lexists(directory / MANIFEST))


def _folders(parent: Path) -> list[Path]:
    """The real folders in ``parent``: a link could lead anywhere."""
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _identity(directory: Path) -> str:
    return f"{directory.parent.name}/{directory.name}"


def _no_run(wanted: str, directories: Iterable[Path]) -> ResumeError:
    names = [directory.name for directory in directories]
    close = difflib.get_close_matches(os.path.basename(wanted), names, n=1, cutoff=0.3)
    return ResumeError(f"no run at {printable(wanted)}" + (f"; nearest: {printable(close[0])}" if close else ""))


def require_own(directory: Path) -> None:
    """Refuse to go on in a directory that others can change while we work in it.

    Raises:
        ResumeError: everybody can write there, or it is another user's.
    """
    status = os.stat(directory)
    where = shlex.quote(printable(directory))
    if status.st_uid != os.geteuid():
        raise ResumeError(f"{where} belongs to another user; copy it (cp -r) and resume the copy, or type --trust")
    if status.st_mode & stat.S_IWOTH:
        raise ResumeError(f"everybody can write to {where}; type chmod -R o-w {where}, or --trust")


# --- manifest --------------------------------------------------------------------------------------------------------


def dependence(manifest: dict[str, Any]) -> str | None:
    """Why the bits of a run depend on the size of its population, as its run.json has it; None if they don't."""
    alone = manifest.get("alone")
    return alone if isinstance(alone, str) and alone != SAME_BITS else None


def other_population(manifest: dict[str, Any], size: int, note: str | None) -> list[str]:
    """The reason why a run that goes on in a population of ``size`` is not exact, if there is one."""
    population = manifest.get("population")
    before = population.get("size") if isinstance(population, dict) else 1
    return [f"{note}: {before} before, {size} now"] if note and before != size else []


def _first_manifest(directory: Path, config: RunConfig, now: datetime) -> dict[str, Any]:
    empty = ("frames_per_second", "evaluation", "best", "failure", "exact", "experiment", "tuned")
    return {
        "id": _identity(directory.absolute()),
        "status": "running",
        "created": _timestamp(now),
        "algo": config.algo.name,
        "env": config.env.name,
        "env_id": config.env.id,
        **clean({"name": config.name}),
        "seed": config.seed,
        "total_frames": config.total_frames,
        "device": config.device,
        "frames": 0,
        "seconds": 0.0,
        "resumed": 0,
        **dict.fromkeys(empty),
        "overrides": [],
        "versions": versions(),
        "git": git_state(),
        "machine": machine(),
    }


def _read_manifest(directory: Path) -> dict[str, Any]:
    """run.json with its fixed keys present and of their types, so that readers need not check again."""
    manifest = read_json(directory / MANIFEST)
    path = printable(directory / MANIFEST)
    if not isinstance(manifest, dict):
        raise ResumeError(f"{path} is not the manifest of an rlrun run")
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise ResumeError(f"{path} is not the manifest of an rlrun run ('{key}' is missing or of a wrong type)")
    if manifest["status"] not in STATUSES:
        raise ResumeError(f"{path}: unknown status '{printable(manifest['status'])}'")
    return manifest


def _timestamp(moment: datetime) -> str:
    """UTC, of fixed width, so that its order as text is its order in time."""
    return moment.isoformat(timespec="microseconds")


# --- directory -------------------------------------------------------------------------------------------------------


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
