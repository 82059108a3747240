"""Run directories written by hand, as another rlrun might have left them: for tests of what reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support import config_of

from rlrun.checkpoint import save
from rlrun.config import to_mapping
from rlrun.plain import to_yaml


def plant(parent: Path, name: str, seconds_ago: float = 0.0, settings: Any = None, **changes: Any) -> Path:
    """A finished run of 100 frames without checkpoints; ``settings`` of its config, ``changes`` to its run.json."""
    directory = parent / name
    (directory / "checkpoints").mkdir(parents=True)
    config = config_of(settings or {}, {"outputs": "outputs"})
    created = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="microseconds")
    manifest = {
        "id": f"{parent.name}/{name}",
        "status": "finished",
        "created": created,
        "updated": created,
        "algo": config.algo.name,
        "env": config.env.name,
        "env_id": config.env.id,
        "name": config.name,
        "seed": config.seed,
        "device": "cpu",
        "total_frames": 100,
        "frames": 100,
        "frames_per_second": 50.0,
        "evaluation": {"return_mean": 10.0, "return_std": 1.0, "episodes": 2, "frames": 100},
        "exact": True,
        "overrides": [],
    }
    (directory / "run.json").write_text(json.dumps(manifest | changes))
    (directory / "config.yaml").write_bytes(to_yaml(to_mapping(config)))
    return directory


def plant_sweep(outputs: Path, name: str, returns: dict[str, float], **changes: Any) -> Path:
    """A sweep with a run for each name and return; seeds 1, 2, ..."""
    sweep = outputs / "sweeps" / name
    for number, (run, value) in enumerate(returns.items(), 1):
        facts = {"evaluation": {"return_mean": value}, "seed": number, "job": number, "overrides": [f"seed={number}"]}
        plant(sweep, run, settings={"seed": number}, **(facts | changes))
    (sweep / "sweep.json").write_text("{}")
    return sweep


def checkpoint(directory: Path, name: str, frames: int) -> Path:
    """A checkpoint that is whole, and holds nothing."""
    path = directory / "checkpoints" / name
    save(path, {"frames": frames}, {"training": {}})
    return path
