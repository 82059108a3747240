"""Which runs are trained together, from which frame, and by how many workers. Nothing is trained here."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import DQN, PPO, config_of

from rlrun import envs
from rlrun.config import EnvConfig, RunConfig, signature
from rlrun.errors import StorageError
from rlrun.run import Run
from rlrun.sweeps import resources
from rlrun.sweeps.batches import Place, common_frames, plan
from rlrun.sweeps.resources import largest_batch, workers_for

SPACES = envs.Spaces(4, envs.DiscreteActions(2))


def place(seed: int, *trees: Any, frames: int | None = None) -> Place:
    config = config_of(*(trees or (DQN,)), {"seed": seed})
    return Place(Run(Path(f"s{seed}"), config, {"status": "waiting"}), frames)


def sizes(places: list[Place], workers: int, largest: int) -> list[int]:
    return [len(batch.runs) for batch in plan(places, workers, lambda config: largest)]


@pytest.mark.parametrize(
    ("runs", "workers", "largest", "expected"),
    [
        (16, 2, 16, [8, 8]),
        (4, 2, 16, [2, 2]),
        (1, 2, 16, [1]),
        (3, 4, 16, [1, 1, 1]),
        (17, 1, 16, [9, 8]),
        (40, 2, 16, [13, 13, 7, 7]),
        (5, 1, 2, [2, 2, 1]),
        (300, 1, 256, [150, 150]),
    ],
)
def test_batches_are_even_and_keep_every_worker_busy(
    runs: int, workers: int, largest: int, expected: list[int]
) -> None:
    assert sizes([place(seed) for seed in range(runs)], workers, largest) == expected


def test_every_run_is_in_one_batch_in_the_order_of_the_jobs() -> None:
    places = [place(seed, frames=frames) for seed, frames in enumerate([None, 5, None, 7, 5, None, 5])]
    batches = plan(places, 2, lambda config: 2)
    assert Counter(run.directory for batch in batches for run in batch.runs) == Counter(p.run.directory for p in places)
    for batch in batches:
        names = [run.directory.name for run in batch.runs]
        assert names == sorted(names)
        frames = {p.frames for p in places if p.run.directory.name in names}
        assert frames == {batch.frames}


def test_only_runs_of_one_signature_are_together() -> None:
    fields = {"algo": {"learning_rate": 1e-4}}, {"algo": {"gamma": 0.5}}, {"name": "other"}, {"sweep": {"workers": 3}}
    together = [place(0), *(place(1, DQN, field) for field in fields)]
    apart = [place(0, DQN, {"network": {"hidden": [8]}}), place(0, DQN, {"total_frames": 9000}), place(0, PPO)]
    assert sorted(sizes([*together, *apart], 1, 100)) == [1, 1, 1, 5]


def test_the_most_expensive_comes_first() -> None:
    long = place(0, DQN, {"total_frames": 10_000_000})
    shorts = [place(seed) for seed in range(1, 5)]
    batches = plan([*shorts, long], 1, lambda config: 8)
    assert [len(batch.runs) for batch in batches] == [1, 4]
    nearly_done = dataclasses.replace(long, frames=9_999_999)
    assert [len(batch.runs) for batch in plan([nearly_done, *shorts], 1, lambda config: 8)] == [4, 1]


def test_settings_of_the_sweep_are_no_part_of_a_signature() -> None:
    assert signature(config_of(DQN, {"sweep": {"batch": 3}})) == signature(config_of(DQN))
    assert signature(config_of(DQN, {"algo": {"batch_size": 16}})) != signature(config_of(DQN))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([[300, 200], [300, 200]], [300, 300]),
        ([[300, 200], [200, 100]], [200, 200]),  # killed between two saves
        ([[300, 200], [200, 100], [300]], [200, 200, 300]),  # one cannot go back
        ([[], [100], []], [None, 100, None]),  # killed within the first save
        ([[50], [300, 200], [300, 200]], [50, 300, 300]),
        ([], []),
    ],
)
def test_common_frames(held: list[list[int]], expected: list[int | None]) -> None:
    assert common_frames(held) == expected


# --- resources -------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, 4.5 GB, no graphics card."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    monkeypatch.setattr(resources, "free_memory", lambda: 4_500_000_000)
    monkeypatch.setattr(resources, "has_graphics_driver", lambda: False)


def test_workers_share_the_cores(machine: None) -> None:
    def workers(*trees: Any) -> int:
        return workers_for([config_of(DQN, tree) for tree in trees])

    assert workers({}) == 4
    assert workers({}, {"hardware": {"threads": 2}}) == 2
    assert workers({"hardware": {"threads": 64}}) == 1
    assert workers({"device": "cuda"}) == 1
    assert workers({"device": "cuda", "sweep": {"workers": 3}}) == 3


def test_workers_that_the_machine_has_room_for(machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep from elsewhere is not to say how many processes start here."""
    assert resources.most_workers() == 4
    monkeypatch.setattr(resources, "free_memory", lambda: 600_000_000)
    assert resources.most_workers() == 2


def test_largest_batch_is_the_fastest_that_fits(machine: None) -> None:
    def largest(*trees: Any, workers: int = 2) -> int:
        return largest_batch(config_of(*trees), SPACES, workers)

    assert (largest(DQN), largest(PPO)) == (8, 16)
    assert largest(DQN, {"device": "cuda"}) == 256
    large = {"algo": {"buffer_size": 10_000_000}}  # 10^7 x (2 x 4 + 4) floats = 480 MB; 2 GB for each of two workers
    assert largest(DQN, large) == 4
    assert largest(DQN, large, workers=1) == 8
    assert largest(DQN, {"algo": {"buffer_size": 80_000_000}}) == 1
    assert largest(DQN, large, {"sweep": {"batch": 3}}) == 3
    with pytest.raises(
        StorageError, match=r"^sweep.batch=9 in 2 workers, each member with algo.buffer_size=10000000, "
    ):
        largest(DQN, large, {"sweep": {"batch": 9}})
    assert largest(DQN, {"sweep": {"batch": 500}}) == 500


def test_memory_is_measured() -> None:
    assert 1e6 < resources.free_memory() < 1e15
    config = RunConfig(env=EnvConfig(id="Hopper-v5"), algo=config_of(PPO, {"algo": {"rollout_steps": 3200}}).algo)
    spaces = envs.spaces(config.env)
    key, needed = resources.bytes_of(config, spaces)
    assert key == "algo.rollout_steps=3200 with algo.num_envs=2"
    rollout = 4 * 6400 * (3 * 11 + 2 * 3 + 6)
    assert rollout < needed == rollout + resources.network_of(config, spaces)[1]


def test_a_network_too_large_for_memory_is_refused(machine: None) -> None:
    config = config_of(PPO, {"network": {"hidden": [40_000, 20_000], "init": "orthogonal"}})
    with pytest.raises(StorageError, match=r"^network\.hidden=\[40000, 20000\] needs 25\.6 GB, 4\.5 GB free"):
        resources.check_memory(config, SPACES)
