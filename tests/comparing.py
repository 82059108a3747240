"""Hand-made runs for whoever compares them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import config_of

from rlrun.run import Run


def finished_run(
    outputs: Path,
    score: float | None,
    *,
    seed: int = 0,
    sweep: str = "",
    frames: int = 1000,
    curve: Sequence[tuple[int, float]] = (),
    typed: Sequence[str] = (),
    manifest: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Run:
    """A run whose last evaluation, of 10 episodes, returned ``score``; None: it was not evaluated. A second takes 100 frames."""
    place = outputs / "sweeps" / sweep if sweep else None
    if place:
        place.mkdir(parents=True, exist_ok=True)
        (place / "sweep.json").write_text("{}")
    config = config_of({"seed": seed, "outputs": str(outputs), "total_frames": frames}, settings)
    run = Run.create(config, {"overrides": list(typed)}, place)
    evaluation = None if score is None else {"return_mean": score, "episodes": 10, "frames": frames}
    run.update(
        **{"status": "finished", "frames": frames, "evaluation": evaluation, "best": evaluation, **(manifest or {})}
    )
    points = curve or ([] if score is None else [(frames, score)])
    rows = [{"type": "evaluation", "frames": at, "return_mean": value} for at, value in points]
    (run.directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"frames": at, "seconds": at / 100} for at, _ in points]
    (run.directory / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def rate(value: float, **more: Any) -> dict[str, Any]:
    """Settings of a DQN with this learning rate."""
    return {"algo": {"name": "dqn", "learning_rate": value, **more}}
