"""State outside of all environments that changes only after the tries before training."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from support import CARTPOLE, Folder, Silent, resumed

from rlrun.run import Run
from rlrun.shared_state import changed, snapshot
from rlrun.training import train

SHARED = [0]


class Late(CartPoleEnv):
    """Counts together with all others from its 151st step on."""

    steps = 0
    state: Any
    table: Any
    more: Any
    counts: list[int]

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


@pytest.mark.parametrize(
    "make",
    [
        lambda value: defaultdict(int, {"a": value}),
        lambda value: Counter({"a": value}),
        lambda value: OrderedDict(a=value),
        lambda value: deque([value]),
        lambda value: frozenset([value]),
        lambda value: bytes([value]),
        np.float32,
        np.array,
        lambda value: [{"a": (value, {value})}],
        float,
        str,
    ],
)
def test_plain_data_that_changes_is_seen(make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Late, "state", make(1), raising=False)
    before = snapshot([Late()])
    Late.state = make(1)
    assert changed(before, snapshot([Late()])) is None
    Late.state = make(2)
    reason = changed(before, snapshot([Late()]))
    assert reason is not None and reason.startswith(f"{__name__}.Late.state is changed by stepping")


def test_what_is_made_at_its_first_use_is_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Late, "table", None, raising=False)
    before = snapshot([Late()])
    Late.table = Late.more = [1, 2]
    after = snapshot([Late()])
    assert changed(before, after) is None
    Late.more = [1, 3]
    assert changed(after, snapshot([Late()])) is not None
    del Late.more


def test_a_large_table_hides_no_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Late, "a_table", list(range(50_000)), raising=False)
    monkeypatch.setattr(Late, "counts", [0], raising=False)
    before = snapshot([Late()])
    Late.counts[0] += 1
    assert changed(before, snapshot([Late()])) is not None
