"""The benchmarks: their settings are those of rlrun on every side, and ratios and tables say what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import cases, profiling, stored, tables
from benchmarks.cases import CASES, MEMORY, PRESETS, RATE, STARTUP, WALL, Target
from benchmarks.growth import CHANGED, FRAMES
from benchmarks.peers import common
from benchmarks.peers.plain_dqn import cleanrl_dqn, tutorial_dqn
from benchmarks.peers.plain_networks import mlp
from benchmarks.peers.plain_ppo import cleanrl_ppo
from benchmarks.peers.plain_tutorial_ppo import tutorial_ppo
from benchmarks.speed import MODULES, QUICK
from rlrun import optim
from rlrun.config import DQNConfig, RunConfig, from_mapping, to_mapping
from rlrun.networks import build
from rlrun.trainers.dqn import epsilon

PEERS = Path(common.__file__).parent


def config_of(preset: str) -> RunConfig:
    return from_mapping(cases.composed(PRESETS[preset].overrides, PRESETS[preset].frames))


# --- cases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_settings_that_peers_get_are_those_of_a_valid_config(name: str) -> None:
    settings = cases.composed(PRESETS[name].overrides, PRESETS[name].frames)
    config = from_mapping(settings)
    assert settings == to_mapping(config)
    assert (config.device, config.evaluation.episodes, config.plot.figures) == ("cpu", 0, "none")
    assert (config.stop.episodes, config.hardware.threads) == (None, 1)
    assert config.logging.every_frames == 1000 and config.checkpoint.every_frames == 100_000


@pytest.mark.parametrize("name", CASES)
def test_every_peer_of_a_case_knows_it(name: str) -> None:
    assert CASES[name].targets
    for target in CASES[name].targets:
        source = (PEERS / f"{MODULES[target.peer]}.py").read_text(encoding="utf-8")
        assert f'"{name.removeprefix("sweep_")}": ' in source


def test_quick_runs_are_valid_too() -> None:
    settings = {preset.overrides: cases.composed(preset.overrides, preset.frames) for preset in PRESETS.values()}
    for case in CASES.values():
        frames = case.frames // QUICK
        assert from_mapping(settings[case.overrides] | {"total_frames": frames}).total_frames == frames


def test_growth_measures_presets_that_learn() -> None:
    for name, frames in FRAMES.items():
        settings = cases.composed((*PRESETS[name].overrides, *CHANGED.get(name, ())), frames)
        assert from_mapping(settings).total_frames == frames


# --- peers do the same math ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dqn_tutorial", "dqn_cleanrl"])
def test_epsilon_of_peers_is_rlruns(name: str) -> None:
    algo = config_of(name).algo
    assert isinstance(algo, DQNConfig)
    for frames in (0, 500, 20_000, 10**6):
        assert common.epsilon(to_mapping(algo), frames) == pytest.approx(float(epsilon(algo, np.array(frames))))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_learning_rate_of_peers_is_rlruns(schedule: str) -> None:
    algo = {"learning_rate": 3e-4, "learning_rate_schedule": schedule}
    for done in (0.0, 0.3, 1.0):
        expected = 3e-4 * optim.schedule(schedule, round(1000 * done), 1000)
        assert common.learning_rate(algo, done) == pytest.approx(expected)


@pytest.mark.parametrize("name", PRESETS)
def test_network_of_peers_is_rlruns(name: str) -> None:
    config = config_of(name)
    shapes = [tuple(p.shape)[::-1] for p in mlp(9, to_mapping(config.network), 2).parameters()]
    assert shapes == list(build(config.network, 9, 2, gain=1.0).shapes().values())
    assert math.prod(shapes[0]) == 9 * config.network.hidden[0]


@pytest.mark.parametrize(
    ("train", "preset", "changes", "updates"),
    [
        (tutorial_dqn, "dqn_tutorial", {}, 256 - 127),
        (cleanrl_dqn, "dqn_cleanrl", {"learning_starts": 100}, 15),
        (cleanrl_ppo, "ppo_cartpole", {"rollout_steps": 64}, 4 * 2),
        (cleanrl_ppo, "ppo_halfcheetah", {"rollout_steps": 128}, 10 * 4),
        (tutorial_ppo, "ppo_pendulum", {"rollout_steps": 128}, 10 * 4),
    ],
)
def test_plain_loops_train(
    train: common.Train,
    preset: str,
    changes: dict[str, int],
    updates: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = []
    step = torch.optim.Optimizer.zero_grad
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self: (steps.append(1), step(self)))
    settings: Any = cases.composed(PRESETS[preset].overrides, PRESETS[preset].frames)
    clock = common.Clock()
    frames = train({**settings, "algo": settings["algo"] | changes}, 256, 0, clock)
    clock.report(frames)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["frames"], answer["seconds_to_first_step"]) == (256, None)
    assert answer["frames_per_second"] > 0
    assert len(steps) == updates


def test_clock_watches_one_step_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Environment:
        def step(self, action: int) -> int:
            return action + 1

    original, clock = Environment.step, common.Clock()
    clock.watch(Environment)
    assert Environment.step is not original
    assert [Environment().step(1), Environment().step(2)] == [2, 3]
    assert Environment.step is original
    monkeypatch.setenv(common.STARTED, "0.0")
    clock.report(10)


# --- ratios and tables -----------------------------------------------------------------------------------------------


def sample(rate: float, wall: float = 1.0, startup: float = 1.0, peak: float = 100.0) -> dict[str, float]:
    return {RATE.name: rate, WALL.name: wall, STARTUP.name: startup, MEMORY.name: peak}


ROUNDS = [
    {"rlrun": sample(50, 2, 1, 90), "sb3": sample(10, 8, 4, 100), "environment": sample(1000)},
    {"rlrun": sample(30, 4, 2, 80), "sb3": sample(10, 8, 4, 100), "environment": sample(500)},
    {"rlrun": sample(40, 2, 1, 70), "sb3": sample(10, 6, 4, 100), "environment": sample(2000)},
]


@pytest.mark.parametrize(
    ("target", "expected", "reached"),
    [
        (Target("sb3", 4), [5, 3, 4], True),
        (Target("sb3", 4.5), [5, 3, 4], False),
        (Target("sb3", 3, WALL), [4, 2, 3], True),
        (Target("sb3", 0.5, STARTUP), [0.25, 0.5, 0.25], True),
        (Target("sb3", 0.75, MEMORY), [0.9, 0.8, 0.7], False),
    ],
)
def test_ratios(target: Target, expected: list[float], reached: bool) -> None:
    values = tables.ratios(target, ROUNDS)
    assert values == pytest.approx(expected)
    assert tables.reached(target, sorted(values)[1]) is reached


def result(**fields: Any) -> dict[str, Any]:
    circumstances = {"date": "2000-01-01 00:00", "cpu": "abacus"}
    return {"frames": 1234, "rounds": ROUNDS, "circumstances": circumstances, **fields}


def test_tables_show_median_range_and_mark() -> None:
    one = {"dqn_cleanrl": result(rounds=[sides | {"plain": sample(20)} for sides in ROUNDS])}
    rows = tables.targets_table(one).splitlines()[2:]
    assert "| 40.00 | SB3 | 10.00 | **4.00**× (3.00 to 5.00) | ≥ 6× | **short** |" in rows[0]
    assert "plain PyTorch" in rows[1]
    assert "| dqn_cleanrl | 1,234 | 3 | rlrun | 40.00 | 4 % | 1.00 | 2.00 | 80.00 |" in tables.sides_table(one)


def test_table_says_what_is_extrapolated() -> None:
    row = tables.targets_table({"sweep_dqn_cleanrl": result(extrapolated=True)}).splitlines()[2]
    assert "SB3 (extrapolated)" in row and "**3.00**×" in row


def test_document_of_nothing_and_of_everything() -> None:
    assert "Nothing is stored" in tables.document({}, {})
    growth = {"agents": {"dqn_tutorial": {"1": [3.0, 1.0, 2.0], "2": [1.0]}}, "frames": {"0 to 10": [5.0]}}
    text = tables.document({"startup": result()}, growth)
    assert "abacus" in text and "| dqn_tutorial | 2.0 (1.0 to 3.0) | 1.0 (1.0 to 1.0) |" in text
    assert "| startup | seconds to first step, s | 1.00 | SB3 | 4.00 | **0.25** (0.25 to 0.50) | ≤ 0.5 | pass |" in text


def test_storing_a_case_leaves_the_others(tmp_path: Path) -> None:
    stored.merge("speed", "one", {"frames": 1}, tmp_path)
    stored.merge("speed", "two", {"frames": 2}, tmp_path)
    assert stored.merge("speed", "one", {"frames": 3}, tmp_path) == {"one": {"frames": 3}, "two": {"frames": 2}}
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]


# --- profile ---------------------------------------------------------------------------------------------------------


def test_profile_finds_all_its_functions_and_puts_them_back() -> None:
    before = optim.move_towards
    with profiling.watching(profiling.Stopwatch(), tuple(profiling.FUNCTIONS)):
        assert optim.move_towards is not before
    assert optim.move_towards is before


def test_profile_names_a_function_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(profiling.FUNCTIONS, "acting", ("rlrun.replay:Replay.gone",))
    with (
        pytest.raises(SystemExit, match=r"rlrun\.replay:Replay\.gone does not exist"),
        profiling.watching(profiling.Stopwatch(), ("acting",)),
    ):
        pass


def test_stopwatch_gives_each_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 0, 10, 10, 13, 13, 18, 18])  # each change reads it before and after
    monkeypatch.setattr(profiling.time, "perf_counter_ns", lambda: next(clock))
    watch = profiling.Stopwatch()
    inner = watch.timed("forward", lambda: None)
    watch.timed(profiling.ROOT, inner)()
    assert (watch.own[profiling.ROOT], watch.own["forward"]) == (15, 3)


def test_profile_reports_microseconds_and_shares() -> None:
    lines = profiling.report("case", {"acting": 9000, "disk": 1000}, 8000, 2).splitlines()
    assert lines[2:5] == ["| acting | 4.50 | 90.0 |", "| disk | 0.50 | 10.0 |", "| all | 5.00 | 100.0 |"]
    assert "without the timing 4.00 µs per step: the timing adds 25 %" in lines[-1]
