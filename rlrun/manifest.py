"""run.json: what it says at first, and reading it with its fixed keys in their places. It may be anyone's."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from rlrun.config import RunConfig
from rlrun.errors import ResumeError
from rlrun.plain import printable, read_json
from rlrun.provenance import clean, git_state, machine, versions

STATUSES = ("waiting", "running", "finished", "stopped", "failed")
UNENDED = ("waiting", "running")

MANIFEST = "run.json"
SAME_BITS = "the same bits"
"""What run.json says under ``alone`` of a run whose bits do not depend on those it is trained with."""

_REQUIRED = {
    **dict.fromkeys(("id", "status", "created", "updated", "algo", "env", "env_id", "name", "device"), str),
    **dict.fromkeys(("seed", "total_frames", "frames"), int),
    "frames_per_second": int | float | None,
    "evaluation": dict | None,
}


def dependence(manifest: dict[str, Any]) -> str | None:
    """Why the bits of a run depend on the size of its population, as its run.json has it; None if they don't."""
    alone = manifest.get("alone")
    return alone if isinstance(alone, str) and alone != SAME_BITS else None


def other_population(manifest: dict[str, Any], size: int, note: str | None) -> list[str]:
    """The reason why a run that goes on in a population of ``size`` is not exact, if there is one."""
    population = manifest.get("population")
    before = population.get("size") if isinstance(population, dict) else 1
    return [f"{note}: {before} before, {size} now"] if note and before != size else []


def first_manifest(directory: Path, config: RunConfig, now: datetime) -> dict[str, Any]:
    empty = ("frames_per_second", "evaluation", "best", "failure", "exact", "experiment", "tuned")
    return {
        "id": identity(directory.absolute()),
        "status": "running",
        "created": timestamp(now),
        "engine": config.engine,
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


def read_manifest(directory: Path) -> dict[str, Any]:
    """run.json with its fixed keys present and of their types, so that readers need not check again."""
    manifest = read_json(directory / MANIFEST)
    path = printable(directory / MANIFEST)
    if not isinstance(manifest, dict):
        raise ResumeError(f"{path} is not the manifest of an rlrun run")
    for key, kind in _REQUIRED.items():
        if key not in manifest or not isinstance(manifest[key], kind):
            raise ResumeError(f"{path} is not the manifest of an rlrun run ('{key}' is missing or of a wrong type)")
    if manifest["status"] not in STATUSES:
        raise ResumeError(f"{path}: unknown status '{printable(manifest['status'])}'")
    return manifest


def texts(values: Any) -> list[str]:
    """The texts in a list of run.json, which may be anything."""
    return [text for text in values if isinstance(text, str)] if isinstance(values, list) else []


def timestamp(moment: datetime) -> str:
    """UTC, of fixed width, so that its order as text is its order in time."""
    return moment.isoformat(timespec="microseconds")


def identity(directory: Path) -> str:
    """``<date>/<name>``."""
    return f"{directory.parent.name}/{directory.name}"
