"""What runs will keep on the disk, against what they then do keep, and against what is free."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import DQN, PPO, Folder, config_of
from test_cli import leftovers

from rlrun.sweeps.resources import spaces_of
from rlrun.sweeps.room import check_room, kept_bytes


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``free(megabytes)``: so much is left, wherever one asks."""

    def leave(megabytes: float, blocks: int = 1000) -> None:
        status = SimpleNamespace(f_bavail=int(megabytes * 1000), f_frsize=1000, f_blocks=blocks)
        monkeypatch.setattr("os.statvfs", lambda place: status)

    return leave


def test_what_does_not_fit_is_refused_before_it_begins(rlrun: Any, workplace: Path, free: Any) -> None:
    """48 bytes a transition, twice for all checkpoints, and the weights."""
    free(52)
    answer = rlrun("algo.buffer_size=3000000", "total_frames=2800000")
    assert answer.code == 5 and len(answer.errors) == 1
    pattern = (
        r"outputs needs ~(\d+) MB for 3 checkpoints, 52 MB free; free some, choose another place "
        r"\(outputs=DIR\), or make checkpoint.keep=2, algo.buffer_size=3000000, network.hidden smaller"
    )
    match = re.fullmatch(pattern, answer.errors[0])
    assert match and 268 <= int(match[1]) <= 271
    free(400)
    answer = rlrun(
        "-m", "seed=1,2", "algo.buffer_size=3000000", "total_frames=2800000", "outputs=a/b", "checkpoint.keep=4"
    )
    assert answer.code == 5 and "a/b needs ~538 MB for 10 checkpoints, 400 MB free" in answer.errors[0]
    answer = rlrun("network.hidden=[9000,9000]", "total_frames=1100")
    assert answer.code == 5 and "needs ~3.9 GB for 3 checkpoints" in answer.errors[0]
    assert leftovers(workplace) == []


def test_a_finished_sweep_that_is_queued_again_needs_no_room(
    rlrun: Any, workplace: Path, free: Any, fake_worker: Any
) -> None:
    fake_worker()
    command = ("-m", "seed=1,2", "run.dir=s", "resume=auto")
    assert rlrun("-q", *command).code == 0
    free(0.0)
    assert rlrun(*command).out.startswith("already complete (2 runs)")
    for sweep in (("-m", "seed=1,2"), ()):
        answer = rlrun(*sweep, "run.dir=new")
        assert answer.code == 5 and "choose another place (run.dir=DIR)" in answer.errors[0]
    assert not (workplace / "new").exists()


def test_where_nothing_is_known_nothing_is_refused(rlrun: Any, workplace: Path, free: Any, fake_worker: Any) -> None:
    fake_worker()
    free(0.1, blocks=0)
    assert rlrun("-q", "-m", "seed=1,2").code == 0


@pytest.mark.parametrize(
    "settings", [DQN, PPO, {"algo": {"name": "dqn", "amsgrad": False}}, {"network": {"hidden": [300, 300]}}], ids=str
)
def test_the_estimate_is_near_and_not_above(settings: dict[str, Any], tmp_path: Path) -> None:
    run = Folder(tmp_path).trained(settings, {"total_frames": 300, "evaluation": {"episodes": 0}})
    size = max(path.stat().st_size for path in run.checkpoints.glob("step_*.ckpt"))
    kept = kept_bytes(run.config, spaces_of([run.config])[repr(run.config.env)])
    assert 0.5 * size < kept / (run.config.checkpoint.keep + 1) < size


def test_a_large_memory_is_counted_twice() -> None:
    """Its pieces are those of two chains, which all checkpoints share."""
    settings = {"algo": {"name": "dqn", "buffer_size": 100_000}, "network": {"hidden": [1]}, "total_frames": 10**6}
    config = config_of(settings)
    assert kept_bytes(config, spaces_of([config])[repr(config.env)]) == pytest.approx(
        2 * 100_000 * 4 * (2 * 4 + 1 + 3), rel=0.01
    )


def test_the_file_system_asked_is_that_of_the_first_folder_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    statvfs = os.statvfs
    monkeypatch.setattr("os.statvfs", lambda place: (asked.append(place), statvfs(place))[1])
    (tmp_path / "there").mkdir()
    config = config_of(DQN, {"outputs": str(tmp_path / "there" / "not" / "yet")})
    check_room([config], spaces_of([config]), tmp_path / "there" / "not" / "yet", "outputs")
    assert asked == [tmp_path / "there"]
