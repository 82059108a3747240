"""Comparisons of hand-made runs, worked by hand, and what is said of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import finished_run, rate

from rlrun.errors import UsageError
from rlrun.metrics import EPISODES
from rlrun.reports.comparison import BETTER, NOT_SAID, NOT_SHOWN, Comparison, compare, judge
from rlrun.reports.comparison_tables import (
    curves_table,
    digits_for,
    scores_table,
    settings_table,
    threshold_table,
)
from rlrun.reports.notes import conclusions, notes_of, numbers, spread
from rlrun.reports.overall import Overall, overall
from rlrun.reports.records import Record, read_record, select
from rlrun.reports.scores import Score, score_of
from rlrun.reports.statistics import Estimate, improvement, interval
from rlrun.reports.tables import Table
from rlrun.reports.threshold import median_of, reached, registered
from rlrun.sweeps.summary import groups_of, rows_of


def records_in(outputs: Path) -> list[Record]:
    return [read_record(path.parent) for path in sorted(outputs.rglob("run.json"))]


def with_scores(outputs: Path, **scores: list[float]) -> Comparison:
    """Of DQNs with learning rates in the order of ``scores``, a run for each."""
    for number, values in enumerate(scores.values(), 1):
        for seed, score in enumerate(values):
            finished_run(outputs, score, seed=seed, **rate(number / 100))
    return compare(records_in(outputs), "final")


def test_settings_are_ranked_by_iqm_and_described(tmp_path: Path) -> None:
    comparison = with_scores(tmp_path, low=[1.0, 2.0, 5.0, 100.0], high=[11.0, 12.0, 13.0, 14.0])
    (environment,) = comparison.environments
    first, second = environment.entries
    assert (first.label, first.number, second.label, second.number) == (
        "learning_rate=0.02",
        1,
        "learning_rate=0.01",
        2,
    )
    assert first.averages is not None and second.averages is not None
    assert (second.averages.iqm.value, second.averages.mean.value, second.averages.median.value) == (3.5, 27.0, 3.5)
    assert [member.seed for member in first.members] == [0, 1, 2, 3] and first.scores == [11.0, 12.0, 13.0, 14.0]
    (versus,) = environment.versus
    assert (versus.first, versus.other, versus.probability.value) == (1, 2, 0.75)
    assert notes_of(comparison, {}) == [
        "intervals of fewer than 10 seeds are a little too narrow: of 5 seeds, 9 in 10 hold the truth instead of 19 in 20"
    ]


def test_the_table_of_a_sweep_has_the_same_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [
        finished_run(tmp_path, float(rng.normal()), seed=seed, sweep="s", typed=[f"seed={seed}"], **rate(0.01))
        for seed in rng.permutation(12).tolist()
    ]
    (table,) = groups_of(rows_of(runs, {}))
    (entry,) = compare(select(["s"], tmp_path).records, "final").entries
    assert entry.averages is not None
    iqm = entry.averages.iqm
    assert (table.statistics["iqm"], *table.statistics["interval"]) == (iqm.value, iqm.low, iqm.high)


@pytest.mark.parametrize(
    ("seeds", "first", "other", "chance", "verdict"),
    [
        (3, (9, 10, 11), (1, 2, 3), (1.0, 1.0, 1.0), NOT_SAID),  # however far apart
        (1, (9, None, None), (1, None, None), (1.0, None, None), NOT_SAID),
        (5, (9, 8, 11), (7, 5, 8.5), (0.9, 0.7, 1.0), NOT_SHOWN),
        (5, (9, 8, 11), (7, 5, 8), (0.9, 0.7, 1.0), NOT_SHOWN),  # they touch
        (5, (9, 8, 11), (7, 5, 7.9), (0.6, 0.5, 0.8), NOT_SHOWN),
        (5, (9, 8, 11), (7, 5, 7.9), (0.9, 0.7, 1.0), BETTER),
        (4, (9, 8, 11), (7, 5, 7.9), (0.9, 0.7, 1.0), BETTER),
        (5, None, None, (0.9, 0.7, 1.0), BETTER),
        (5, None, None, (0.6, 0.4, 0.8), NOT_SHOWN),
    ],
)
def test_verdicts(seeds: int, first: Any, other: Any, chance: Any, verdict: str) -> None:
    estimates = [None if each is None else Estimate(*each) for each in (first, other)]
    said, why = judge(seeds, *estimates, Estimate(*chance))
    assert said == verdict
    assert (why == "but of 4 seeds only") == (seeds == 4)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_equal_settings_are_seldom_told_apart(draw: str) -> None:
    """The error of 300 trials is about 1 % at a rate of 3 %; with 2 seeds a third would pass, which is why nothing is said of them."""
    rng = np.random.default_rng(0)

    def wrong(seeds: int, trials: int = 300) -> float:
        found = 0
        for _ in range(trials):
            (low, high), (lower, higher) = (interval(getattr(rng, draw)(size=seeds), 500) or (0, 0) for _ in range(2))
            found += low > higher or lower > high
        return found / trials

    assert wrong(4) < 0.06 and wrong(5) < 0.05 and wrong(10) < 0.04
    assert wrong(2) > 0.2


def test_what_is_said_plainly(tmp_path: Path) -> None:
    few = with_scores(tmp_path / "few", a=[1.0, 2.0, 3.0], b=[11.0, 12.0, 13.0, 14.0, 15.0])
    assert conclusions(few.environments[0]) == [
        "#1 (learning_rate=0.02) may or may not differ: too few seeds (3 or fewer) of it or of #2",
        "too few seeds: #2; train at least 5 of each, better 10",
    ]
    overlap = with_scores(tmp_path / "overlap", a=[1.0, 2.0, 3.0, 4.0, 5.0], b=[2.0, 3.0, 4.0, 5.0, 6.0])
    assert conclusions(overlap.environments[0]) == ["#1 (learning_rate=0.02) is not shown to differ from #2"]
    apart = with_scores(tmp_path / "apart", a=[1.0, 2, 3, 4, 5], b=[12.0, 13, 14, 15, 16], c=[12.5, 13, 14, 15, 16])
    assert conclusions(apart.environments[0]) == [
        "#1 (learning_rate=0.02) is better than #3",
        "#1 (learning_rate=0.02) is not shown to differ from #2",
        "#1 was picked as the best of 3 by the scores it is judged by, which flatters it: "
        "confirm it with seeds that were not used yet",
    ]
    alone = with_scores(tmp_path / "alone", a=[1.0] * 5)
    assert conclusions(alone.environments[0]) == ["one setting with scores: nothing to compare it with"]


def test_what_has_not_finished_is_named_and_left_out(tmp_path: Path) -> None:
    for seed, status in enumerate(("finished", "failed", "stopped", "running", "waiting")):
        finished_run(tmp_path, 10.0 * seed, seed=seed, manifest={"status": status, "frames": 500}, **rate(0.1))
    finished_run(tmp_path, None, seed=5, **rate(0.1))
    finished_run(tmp_path, 1.0, seed=6, manifest={"evaluation": {"return_mean": True}}, **rate(0.1))
    damaged = finished_run(tmp_path, 1.0, seed=7, **rate(0.1))
    (damaged.directory / "metrics.jsonl").write_text("{\n")
    (entry,) = compare(records_in(tmp_path), "final").entries
    assert entry.scores == [0.0]
    reasons = {record.manifest["seed"]: why for record, why in entry.left_out}
    assert reasons.pop(7).startswith(str(damaged.directory / "metrics.jsonl"))
    assert reasons == {
        1: "failed at frame 500 of 1,000",
        2: "stopped at frame 500 of 1,000",
        3: "interrupted at frame 500 of 1,000",
        4: "waiting at frame 500 of 1,000",
        5: "it was not evaluated",
        6: "its evaluation has no finite return",
    }
    notes = notes_of(compare(records_in(tmp_path), "final"), {"x": "why not"})
    assert notes[0] == "unreadable, left out: why not"
    assert notes[1].startswith("left out of #1: ") and notes[1].endswith("; and 1 more")
    assert notes[2] == "runs of #1 failed: what is left of them may flatter these settings"


def test_a_seed_counts_once(tmp_path: Path) -> None:
    older = finished_run(tmp_path, 1.0, seed=3, manifest={"created": "2026-01-01"}, **rate(0.1))
    newer = finished_run(tmp_path, 2.0, seed=3, manifest={"created": "2026-01-02"}, **rate(0.1))
    finished_run(tmp_path, 3.0, seed=4, **rate(0.1))
    (entry,) = compare(records_in(tmp_path), "final").entries
    assert entry.scores == [2.0, 3.0]
    ((record, why),) = entry.left_out
    assert record.directory == older.directory
    assert why == f"a duplicate of {newer.directory.name}: the same settings and seed, but another score"


def test_equal_sweeps_are_called_so(tmp_path: Path) -> None:
    for sweep in ("one", "two"):
        for seed in range(2 if sweep == "one" else 3):
            finished_run(tmp_path, float(seed), seed=seed, sweep=sweep, **rate(0.1))
    comparison = compare(select(["one", "two"], tmp_path).records, "final")
    assert [len(entry.members) for entry in comparison.entries] == [3, 2]
    assert any(
        "#1 and #2 are of different sweeps, but have the same settings and share seeds 0, 1:" in note
        for note in notes_of(comparison, {})
    )


def test_different_frames_episodes_and_rewards_are_noted(tmp_path: Path) -> None:
    finished_run(tmp_path, 1.0, frames=1000, **rate(0.1))
    longer = {"return_mean": 2.0, "episodes": 50, "frames": 2000}
    finished_run(
        tmp_path,
        2.0,
        frames=2000,
        manifest={"evaluation": longer},
        env={"time_limit": 50},
        stop={"return": 1.0},
        **rate(0.1),
    )
    notes = notes_of(compare(records_in(tmp_path), "final"), {})
    assert notes == [
        "scores were measured at different frames (2,000: #1; 1,000: #2): longer training alone may be the difference; "
        "--at FRAMES compares all at the same",
        "numbers of evaluation episodes differ (50: #1; 10: #2): fewer are noisier",
        "#1 stopped at the first evaluation that reached stop.return: a lucky one counts",
        "settings of the environment differ (env.time_limit): returns may not mean the same",
    ]


def test_metrics(tmp_path: Path) -> None:
    run = finished_run(
        tmp_path,
        4.0,
        frames=4000,
        curve=[(1000, 0.0), (2000, 10.0), (4000, 4.0)],
        manifest={"best": {"return_mean": 10, "frames": 2000, "episodes": 7}},
    )
    (run.directory / EPISODES).write_text(
        "episode,frames,return,length\n" + "".join(f"{n},{n},{float(n)},1\n" for n in range(1, 151))
    )
    record = read_record(run.directory)
    assert score_of(record, "final") == Score(4.0, 4000, 10)
    assert score_of(record, "best") == Score(10.0, 2000, 7)
    assert score_of(record, "auc") == Score((5.0 * 10 + 7.0 * 20) / 30, 4000, None)
    assert score_of(record, "training") == Score(100.5, 4000, 100)  # of 51 to 150
    bare = read_record(finished_run(tmp_path, 1.0).directory)
    assert score_of(bare, "auc") == "an area needs two evaluations"
    assert score_of(bare, "training") == "it has no finished training episode"


def test_at_equal_frames_whatever_got_there_counts(tmp_path: Path) -> None:
    curve = [(1000, 5.0), (2000, 9.0), (3000, 1.0), (4000, 7.0)]
    for seed, (status, frames) in enumerate((("finished", 4000), ("failed", 3000), ("stopped", 2999))):
        points = [point for point in curve if point[0] <= frames]
        run = finished_run(
            tmp_path, 7.0, seed=seed, frames=4000, curve=points, manifest={"status": status, "frames": frames}
        )
        (run.directory / EPISODES).write_text("episode,frames,return,length\n1,2500,3.0,9\n2,3500,100.0,9\n")
    records = records_in(tmp_path)
    for metric, value in (("final", 1.0), ("best", 9.0), ("auc", 6.0), ("training", 3.0)):
        (environment,) = compare(records, metric, 6.0, at=3000).environments
        (entry,) = environment.entries
        assert entry.scores == [value, value]
        assert [why for _, why in entry.left_out] == ["stopped at frame 2,999 of 4,000"]
        assert [member.score.frames for member in entry.members] == ([2000, 2000] if metric == "best" else [3000, 3000])
    assert (
        score_of(records[0], "final", 999)
        == score_of(records[0], "best", 999)
        == "it was not evaluated until frame 999"
    )
    assert reached(records[0], 6.0, 1999).frames == math.inf and reached(records[0], 6.0, 2000).frames == 2000


def test_first_evaluation_over_a_threshold(tmp_path: Path) -> None:
    curve = [(100, 1.0), (200, 5.0), (300, 2.0), (400, 6.0)]
    record = read_record(finished_run(tmp_path, 6.0, curve=curve).directory)
    assert (reached(record, 5.0).frames, reached(record, 5.0).seconds) == (200.0, 2.0)
    assert reached(record, 5.5).frames == 400.0
    assert reached(record, 7.0).frames == math.inf
    (record.directory / "timing.jsonl").write_text("{\n")
    again = reached(read_record(record.directory), 5.0)
    assert again.frames == 200.0 and math.isnan(again.seconds)


def test_the_median_knows_of_seeds_that_never_arrived() -> None:
    assert median_of([3.0, 1.0, 2.0]) == 2.0 and median_of([1.0, 2.0]) == 1.5
    assert median_of([1.0, math.inf, 2.0]) == 2.0
    assert median_of([1.0, math.inf]) == math.inf and median_of([math.inf, math.inf]) == math.inf
    assert median_of([1.0, math.nan]) is None and median_of([]) is None


def test_the_threshold_of_the_registry_is_for_the_environment_as_it_is_registered(tmp_path: Path) -> None:
    record = read_record(finished_run(tmp_path, 1.0).directory)
    assert registered("CartPole-v1", [record]) == 475.0
    assert registered("Nowhere-v0", [record]) is None
    assert registered("os:CartPole-v1", [record]) is None  # nothing is imported for a name in a file
    changed = read_record(finished_run(tmp_path, 1.0, env={"kwargs": {"sutton_barto_reward": True}}).directory)
    assert registered("CartPole-v1", [record, changed]) is None


def test_tables(tmp_path: Path) -> None:
    for seed in range(2):
        finished_run(tmp_path, 400.0 + seed, seed=seed, curve=[(500, 480.0 * seed), (1000, 400.0 + seed)], **rate(0.1))
        finished_run(
            tmp_path,
            500.0,
            seed=seed,
            frames=2000,
            curve=[(500, 100.0), (1500, 480.0), (2000, 500.0)],
            **rate(0.2, gamma=0.5),
        )
    (environment,) = compare(records_in(tmp_path), "final").environments
    settings = settings_table(environment, 80)
    assert settings is not None
    assert upright(settings) == {
        "total_frames": ["2000", "1000"],
        "algo.learning_rate": ["0.2", "0.1"],
        "algo.gamma": ["0.5", "0.99"],
    }
    assert scores_table(environment.entries, 80).rows[1] == ["#2", "2", *["400.5 [400.0, 401.0]"] * 3]
    threshold = threshold_table(environment)
    assert threshold is not None and ", Gymnasium's threshold" in threshold.title
    assert threshold.rows == [["#1", "2/2", "1,500", "15.0"], ["#2", "1/2", "half never", "half never"]]
    curves = curves_table(environment)
    assert curves is not None and curves.columns == ["", "500", "1,000", "1,500", "2,000"]
    assert curves.rows == [["#1", "100.0", "290.0", "480.0", "500.0"], ["#2", "240.0", "400.5", "-", "-"]]


def test_settings_of_one_algorithm_alone_are_not_in_the_table(tmp_path: Path) -> None:
    finished_run(tmp_path, 1.0, frames=4000, algo={"name": "dqn", "gamma": 0.9})
    finished_run(tmp_path, 2.0, frames=4000, algo={"name": "ppo", "gamma": 0.8})
    (environment,) = compare(records_in(tmp_path), "final").environments
    table = settings_table(environment, 80)
    assert table is not None and table.title.endswith("but for those of one algorithm alone")
    keys = upright(table).keys()
    assert {"algo.name", "algo.gamma"} <= keys and not {"algo.buffer_size", "algo.clip_range"} & keys


def upright(table: Table) -> dict[str, list[str]]:
    """A table of settings by its settings, whichever way it lies."""
    rows = (table if table.columns[1].startswith("#") else table.turned()).rows
    return {row[0]: row[1:] for row in rows}


def over_tasks(outputs: Path, scores: dict[tuple[str, str], list[float]]) -> Comparison:
    for (algo, env_id), values in scores.items():
        for seed, score in enumerate(values):
            typed = [f"algo={algo}", f"env={env_id}", f"seed={seed}", "+env.id=x"]
            gamma = 0.9 if env_id == "Acrobot-v1" else 0.99  # tuned for it: not typed, so of the same method
            finished_run(
                outputs,
                score,
                seed=seed,
                frames=4000,
                typed=typed,
                algo={"name": algo, "gamma": gamma},
                env={"id": env_id},
            )
    return compare(records_in(outputs), "final")


def test_over_environments_the_chance_to_win_is_averaged(tmp_path: Path) -> None:
    scores = {
        ("dqn", "CartPole-v1"): [100.0, 200, 300, 400],
        ("ppo", "CartPole-v1"): [250.0, 260, 270, 500, 500],
        ("dqn", "Acrobot-v1"): [-500.0, -400, -300, -200],
        ("ppo", "Acrobot-v1"): [-90.0, -91, -92, -93],
    }
    comparison = over_tasks(tmp_path, scores)
    result = overall(comparison, {})
    assert isinstance(result, Overall)
    assert [method.label for method in result.methods] == ["algo=ppo", "algo=dqn"] and result.methods[
        0
    ].averages is None
    (duel,) = result.duels
    wins = improvement([(scores["ppo", "CartPole-v1"], scores["dqn", "CartPole-v1"])]).value
    assert duel.probability.value == pytest.approx((wins + 1.0) / 2)
    scaled = overall(comparison, {"CartPole-v1": (0.0, 500.0), "Acrobot-v1": (-500.0, 0.0)})
    assert isinstance(scaled, Overall) and scaled.methods[0].averages is not None
    averages = scaled.methods[0].averages
    acrobot, cartpole = np.mean([0.82, 0.818, 0.816, 0.814]), np.mean([0.5, 0.52, 0.54, 1.0, 1.0])
    assert averages.mean.value == pytest.approx((acrobot + cartpole) / 2)
    assert averages.iqm.value == pytest.approx(np.mean([0.54, 0.814, 0.816, 0.818, 0.82]))


def test_what_is_not_in_every_environment_is_not_averaged(tmp_path: Path) -> None:
    comparison = over_tasks(tmp_path, {("dqn", "CartPole-v1"): [1.0], ("ppo", "Acrobot-v1"): [1.0]})
    assert overall(comparison, {}) == "no setting has scores in every environment"
    with pytest.raises(UsageError, match=r"says nothing of Acrobot-v1; add --normalize Acrobot-v1=LOW:HIGH"):
        overall(comparison, {"CartPole-v1": (0.0, 1.0)})
    with pytest.raises(UsageError, match="no run here is of it"):
        overall(comparison, {"Ant-v5": (0.0, 1.0)})
    assert overall(with_scores(tmp_path / "one", a=[1.0]), {}) == "one environment"


def methods_of(outputs: Path, *typed: tuple[str, str, dict[str, Any]]) -> Overall | str:
    """Of runs in these environments, with what was typed and set for each."""
    for env_id, text, settings in typed:
        finished_run(outputs, 1.0, typed=[text] if text else [], env={"id": env_id}, **settings)
    return overall(compare(records_in(outputs), "final"), {})


@pytest.mark.parametrize("text", ["logger=csv", "plot.figures=none", "name=here", "device=cpu", "sweep.workers=2"])
def test_what_changes_no_result_makes_no_method(tmp_path: Path, text: str) -> None:
    result = methods_of(tmp_path, ("CartPole-v1", text, {}), ("Acrobot-v1", "", {}))
    assert isinstance(result, Overall) and [method.label for method in result.methods] == ["algo=dqn"]


def test_names_tell_methods_apart_if_nothing_else_does(tmp_path: Path) -> None:
    runs = [(env, f"name={name}", {"name": name}) for env in ("CartPole-v1", "Acrobot-v1") for name in ("a", "b")]
    result = methods_of(tmp_path, *runs)
    assert isinstance(result, Overall)
    assert sorted(method.label for method in result.methods) == ["algo=dqn, name=a", "algo=dqn, name=b"]


def test_a_reproduction_is_no_second_seed_and_no_other_setting(tmp_path: Path) -> None:
    run = finished_run(tmp_path, 1.0, manifest={"created": "2026-01-01"}, device="auto")
    run.update(device="cpu")
    again = finished_run(tmp_path, 1.0, manifest={"created": "2026-01-02"}, device="cpu")
    (entry,) = compare(records_in(tmp_path), "final").entries
    assert [member.record.directory for member in entry.members] == [again.directory]
    assert [(record.directory, why) for record, why in entry.left_out] == [
        (run.directory, f"a duplicate of {again.directory.name}: the same settings and seed")
    ]


def test_the_table_of_settings_has_the_device_that_was_trained_on(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        finished_run(tmp_path, 1.0, device="auto").update(device=device)
    (environment,) = compare(records_in(tmp_path), "final").environments
    table = settings_table(environment, 80)
    assert table is not None and sorted(upright(table)["device"]) == ["cpu", "cuda"]


def test_equal_comparisons_have_equal_digits(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(2, 6)).tolist()
    first = with_scores(tmp_path / "x", a=scores[0], b=scores[1])
    second = with_scores(tmp_path / "y", a=scores[0][::-1], b=scores[1])  # which seed has which score is nothing
    assert [entry.averages for entry in first.entries] == [entry.averages for entry in second.entries]


def test_words() -> None:
    assert numbers([1]) == "#1" and numbers([1, 2]) == "#1 and #2" and numbers([1, 3, 4, 5, 7]) == "#1, #3 to #5 and #7"
    assert (
        spread([1000, 1000]) == "1,000" and spread([3, 1000]) == "3 to 1,000" and spread([1, None]) == "?" == spread([])
    )
    assert [digits_for([value]) for value in (0.5, -20.0, 500.0, 12000.0)] == [3, 2, 1, 0] and digits_for([]) == 3
