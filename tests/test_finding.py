"""Runs among others: held by one process, found by name, listed by age."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rlrun.config import RunConfig
from rlrun.errors import LockedError, ResumeError, StorageError, UsageError
from rlrun.finding import find, find_all, find_sweep, list_runs
from rlrun.locks import is_locked
from rlrun.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(RunConfig(outputs=str(tmp_path / "outputs")), {})


def plant(parent: Path, name: str, created: str = "2025-01-01", **changes: Any) -> Path:
    """A run directory as another rlrun might have written it."""
    directory = parent / name
    directory.mkdir(parents=True)
    manifest = {
        **dict.fromkeys(("updated", "algo", "env", "env_id", "name", "device"), "x"),
        **dict.fromkeys(("seed", "total_frames", "frames"), 0),
        **dict.fromkeys(("frames_per_second", "evaluation")),
        "id": name,
        "status": "finished",
        "created": created,
    }
    (directory / "run.json").write_text(json.dumps(manifest | changes))
    return directory


# --- lock ------------------------------------------------------------------------------------------------------------


def hold(directory: Path, ready: Any, release: Any) -> None:
    with Run.open(directory).lock():
        ready.set()
        release.wait(30)


def test_one_process_holds_a_run_and_its_death_frees_it(run: Run) -> None:
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    child = context.Process(target=hold, args=(run.directory, ready, release))
    child.start()
    assert ready.wait(30)
    with pytest.raises(LockedError, match=rf"is in use by pid {child.pid} on host .+ since 2"), run.lock():
        pass
    assert [found["status"] for found in list_runs(Path(run.config.outputs))] == ["running"]
    child.kill()
    child.join()
    assert [found["status"] for found in list_runs(Path(run.config.outputs))] == ["interrupted"]
    (run.directory / ".tmp-1-0").write_text("left by the killed process")
    with run.lock():
        assert not (run.directory / ".tmp-1-0").exists()
        with pytest.raises(LockedError, match=f"pid {os.getpid()}"), run.lock():
            pass
    with run.lock():
        pass


def test_a_run_whose_lock_file_is_deleted_is_held_all_the_same(run: Run) -> None:
    with run.lock():
        (run.directory / "run.lock").unlink()
        assert is_locked(run.directory)
        with pytest.raises(LockedError, match="in use by another process"), run.lock():
            pass
        assert not (run.directory / "run.lock").exists()
    assert not is_locked(run.directory)
    with run.lock():
        assert (run.directory / "run.lock").exists()


def test_a_file_system_without_locks_on_directories_has_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "no locks on directories")
        real(descriptor, operation)

    monkeypatch.setattr("rlrun.locks.fcntl.flock", flock)
    assert not is_locked(run.directory)
    with run.lock(), pytest.raises(LockedError, match=f"pid {os.getpid()}"), run.lock():
        pass


def test_the_lock_survives_a_listing_and_an_error_inside(run: Run) -> None:
    with pytest.raises(KeyError), run.lock():
        assert list_runs(Path(run.config.outputs))[0]["status"] == "running"
        raise KeyError
    assert list_runs(Path(run.config.outputs))[0]["status"] == "interrupted"


def test_a_hostile_lock_file_is_only_text(run: Run, tmp_path: Path) -> None:
    with run.lock():
        (run.directory / "run.lock").write_text('{"pid": "\\u001b[31m", "host": "h\\n", "since": 1}')
        with pytest.raises(LockedError, match=r"in use by pid \[31m on host h since 1$"), run.lock():
            pass
        (run.directory / "run.lock").write_text("[" * 2000)
        with pytest.raises(LockedError, match="in use by another process"), run.lock():
            pass
    (run.directory / "run.lock").unlink()
    (run.directory / "run.lock").symlink_to(tmp_path / "made")
    with pytest.raises(StorageError, match="can't lock"), run.lock():
        pass
    assert not (tmp_path / "made").exists()


# --- find and list ---------------------------------------------------------------------------------------------------


def test_find_by_path_prefix_and_age(tmp_path: Path) -> None:
    first = plant(tmp_path / "2025-01-01", "120000_dqn_cartpole_s1", created="2025-01-01T12:00:00")
    second = plant(tmp_path / "2025-01-02", "120000_dqn_cartpole_s1", created="2025-01-02T12:00:00")
    third = plant(tmp_path / "sweeps" / "2025-01-01_lr", "130000_ppo_cartpole_s1", created="2025-01-03T00:00:00")
    os.utime(first / "run.json", (4e9, 4e9))
    assert find("latest", tmp_path) == third
    assert find(str(first), tmp_path) == first
    assert find(f"{first}/", tmp_path) == first
    assert find("13", tmp_path) == third
    assert find("2025-01-02/12", tmp_path) == second
    assert find("2025-01-02", tmp_path) == second
    with pytest.raises(UsageError, match="fits 2 runs: 2025-01-01/120000_dqn_cartpole_s1, 2025-01-02/1200"):
        find("120000", tmp_path)
    with pytest.raises(ResumeError, match="no run at 130000_ppo_cartpool_s1; nearest: 130000_ppo_cartpole_s1"):
        find("130000_ppo_cartpool_s1", tmp_path)
    with pytest.raises(ResumeError, match="has no run.json"):
        find(str(tmp_path), tmp_path)
    for empty in ("", "/"):
        with pytest.raises(UsageError, match="which run"):
            find(empty, tmp_path)


def test_an_ambiguous_name_lists_five(tmp_path: Path) -> None:
    for seed in range(7):
        plant(tmp_path / "2025-01-01", f"12_s{seed}")
    with pytest.raises(UsageError) as raised:
        find("12", tmp_path)
    assert str(raised.value).count("2025-01-01/") == 5
    assert "fits 7 runs" in str(raised.value)
    assert "and 2 more" in str(raised.value)


def test_an_exact_name_wins_over_a_longer_one(tmp_path: Path) -> None:
    exact = plant(tmp_path / "2025-01-01", "12_s1")
    plant(tmp_path / "2025-01-01", "12_s1-1")
    assert find("12_s1", tmp_path) == exact
    assert find("2025-01-01/12_s1", tmp_path) == exact


@pytest.mark.parametrize("selector", ["latest", "x", "a" * 5000, "nul\0byte", "../..x", "[*"])
def test_nothing_found_is_one_line(tmp_path: Path, selector: str) -> None:
    with pytest.raises(ResumeError) as raised:
        find(selector, tmp_path / "none")
    assert len(str(raised.value).splitlines()) == 1


def test_list_shows_newest_first_and_keeps_what_it_cannot_read(tmp_path: Path) -> None:
    old = plant(tmp_path / "2025-01-02", "old", created="2025-01-01")
    new = plant(tmp_path / "sweeps" / "s", "new", created="2025-01-05", frames=9)
    stuck = plant(tmp_path / "2025-01-02", "stuck", created="2025-01-03", status="running")
    damaged = plant(tmp_path / "2025-01-02", "damaged", frames="many")
    (tmp_path / "2025-01-02" / "no run").mkdir()
    (tmp_path / "2025-01-02" / "link").symlink_to(new)
    (tmp_path / "file").write_text("")
    runs = list_runs(tmp_path)
    assert [run["directory"] for run in runs] == [str(path) for path in (new, stuck, old, damaged)]
    assert [run["status"] for run in runs] == ["finished", "interrupted", "finished", "unreadable"]
    assert runs[0]["frames"] == 9
    assert "'frames'" in runs[3]["failure"]
    assert json.loads((stuck / "run.json").read_text())["status"] == "running"
    assert list_runs(tmp_path / "absent") == []


def test_an_unknown_status_is_refused_and_printed_harmlessly(tmp_path: Path) -> None:
    directory = plant(tmp_path, "a", status="\x1b]0;owned\x07")
    with pytest.raises(ResumeError, match=r"unknown status '\]0;owned'"):
        Run.open(directory)


def test_the_latest_run_is_one_that_has_begun(tmp_path: Path) -> None:
    """A waiting one is its sweep's to begin."""
    stopped = plant(tmp_path / "2025-01-01", "a", status="stopped")
    plant(tmp_path / "sweeps" / "s", "b", created="2025-02-02", status="waiting")
    assert find("latest", tmp_path) == stopped
    with pytest.raises(ResumeError, match="no run in"):
        find("latest", tmp_path / "sweeps")


def test_a_run_is_held_as_it_was_read(run: Run) -> None:
    stale = Run.open(run.directory)
    run.update(frames=5)
    with pytest.raises(ResumeError, match="another process has changed"), stale.lock():
        pass
    with run.lock():
        assert run.manifest["frames"] == 5


def test_latest_is_the_sweep_that_the_latest_run_is_of(tmp_path: Path) -> None:
    place = tmp_path / "sweeps" / "2026-01-01_000000_grid"
    place.mkdir(parents=True)
    (place / "sweep.json").write_text("{}")
    assert find_sweep("latest", tmp_path) is None
    member = Run.create(RunConfig(outputs=str(tmp_path)), {}, place)
    assert (find_sweep("latest", tmp_path), find("latest", tmp_path)) == (place, member.directory)
    assert find_all(["latest"], tmp_path) == [place]
    alone = Run.create(RunConfig(outputs=str(tmp_path)), {})
    assert find_sweep("latest", tmp_path) is None and find_all(["latest"], tmp_path) == [alone.directory]


def test_nothing_in_a_folder_of_runs_is_found_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's folder could lead ``rm`` and ``gc`` anywhere; what was typed out may be a link."""
    monkeypatch.chdir(tmp_path)
    victim, hostile = tmp_path / "victim", Path("hostile[1]")
    plant(victim, "12_dqn")
    sweep = victim / "2026-01-01_000000_grid"
    plant(sweep, "13_dqn")
    (sweep / "sweep.json").write_text("{}")
    own = plant(tmp_path / hostile / "2026-01-02", "own_dqn")
    (hostile / "2026-01-01").symlink_to(victim)
    (hostile / "sweeps").symlink_to(victim)
    (own.parent / "14_dqn").symlink_to(victim / "12_dqn")
    (own.parent / "run_grid").symlink_to(sweep)
    assert [Path(run["directory"]) for run in list_runs(hostile)] == [hostile / "2026-01-02" / "own_dqn"]
    assert find_sweep("2026-01-01", hostile) is None
    assert find_all(["*dqn*"], hostile) == [hostile / "2026-01-02" / "own_dqn"]
    assert find_all(["hostile*/*/*_dqn"], hostile) == [hostile / "2026-01-02" / "own_dqn"]
    assert find_all(["*/*_dqn"], Path("elsewhere")) == [Path("victim/12_dqn")]
    for pattern in ("1?_dqn", "*_grid", "2026-01-01/*", "2026-01-01/../*/12*", "hostile[[]1]/2026-01-01/*"):
        with pytest.raises(ResumeError, match="no run or sweep fits"):
            find_all([pattern], hostile)
    Path("mine").symlink_to(hostile)
    assert find_all(["mine/*/*"], Path("mine")) == find_all(["own*"], Path("mine")) == [Path("mine/2026-01-02/own_dqn")]
    assert find_all(["hostile[1]/2026-01-01/12_dqn"], hostile) == [hostile / "2026-01-01" / "12_dqn"]
