"""State outside of all environments that changes only after the tries before training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from support import CARTPOLE, Folder, Silent, resumed

from rlrun.run import Run
from rlrun.training import train

SHARED = [0]


class Late(CartPoleEnv):
    """Counts together with all others from its 151st step on."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        SHARED[0] += self.steps > 150
        return super().step(action)


@pytest.fixture
def late() -> Iterator[dict[str, Any]]:
    gymnasium.register("Late-v0", Late, max_episode_steps=500)
    yield {"env": {"id": "Late-v0"}}
    del gymnasium.registry["Late-v0"]


def test_what_changes_late_is_told_and_recorded(late: dict[str, Any], tmp_path: Path) -> None:
    folder, view = Folder(tmp_path), Silent()
    runs = [folder.run(CARTPOLE, late, {"seed": seed}) for seed in (0, 1)]
    assert [outcome.status for outcome in train(runs, view)] == ["finished"] * 2
    reason = f"{__name__}.SHARED is changed by stepping; it is in no environment"
    assert [line.partition(": ")[2] for line in view.notes] == [reason]
    for run in runs:
        manifest = Run.open(run.directory).manifest
        assert (manifest["exact"], manifest["inexact_because"]) == (False, [reason])
        assert "bits then depend on the population" in manifest["alone"]
    assert resumed(runs[0], total_frames=450).run.manifest["exact"] is False
