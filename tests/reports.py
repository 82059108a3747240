"""Hand-made runs for the tests of reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import config_of

from rlrun.run import Run

HOSTILE = (
    "</script><img src=x onerror=hacked=1><script>hacked=1</script>'\"><svg onload=hacked=1>"
    '\u202e\u2066\u2028&lt;b&gt;<a href="javascript:hacked=1">a</a>'
)
"""A text that wants to be markup."""


def made(
    outputs: Path,
    sweep: str = "",
    final: float | None = None,
    curve: Sequence[tuple[int, float]] = (),
    manifest: dict[str, Any] | None = None,
    **settings: Any,
) -> Run:
    """A run, in ``sweep`` if one is named, that ended with a return of ``final``; ``curve``: frames and returns of evaluations."""
    place = outputs / "sweeps" / sweep if sweep else None
    if place:
        place.mkdir(parents=True, exist_ok=True)
        (place / "sweep.json").write_text("{}")
    ended = {} if final is None else {"status": "finished", "evaluation": {"return_mean": final}, "frames": 100}
    config = config_of(settings, {"outputs": str(outputs)})
    run = Run.create(config, {"status": "failed", "wall_seconds": 2.5, **ended, **(manifest or {})}, place)
    rows = [
        {"type": "evaluation", "frames": frames, "return_mean": value, "length_mean": 1.0} for frames, value in curve
    ]
    write_rows(run, rows)
    times = [{"frames": frames, "seconds": frames / 100} for frames, _ in curve]
    (run.directory / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in times))
    return run


def write_rows(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    (run.directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def grid(outputs: Path, sweep: str = "2026-01-01_0_grid") -> list[Run]:
    """Two learning rates, discounts and seeds: the return is 100 and 50 for the rates, 10 more for the second discount, and the seed."""
    runs = []
    for seed in (0, 1):
        for rate, base in ((0.01, 100.0), (0.001, 50.0)):
            for gamma, more in ((0.9, 0.0), (0.99, 10.0)):
                final = base + more + seed
                typed = ["algo=dqn", f"seed={seed}", f"algo.learning_rate={rate}", f"algo.gamma={gamma}"]
                algo = {"name": "dqn", "learning_rate": rate, "gamma": gamma}
                curve = [(0, 0.0), (50, final / 2), (100, final)]
                manifest = {"overrides": typed, "exact": True, "frames_per_second": 40.0}
                runs.append(made(outputs, sweep, final, curve, manifest, seed=seed, algo=algo))
    return runs
