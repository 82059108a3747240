"""What figures show: the numbers of the runs, in axes that can be read back; and that nothing in them overlaps."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from support import DQN, PPO, config_of

from rlrun.errors import ResumeError, StorageError
from rlrun.plain import to_yaml
from rlrun.reports import canvas
from rlrun.reports.canvas import STYLES, plain_numbers, wrapped
from rlrun.reports.figures import draw, save
from rlrun.reports.panels import FIGURES, running_mean
from rlrun.reports.records import Record, read_record
from rlrun.run import Run, own_folder

Make = Callable[..., Record]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make({"evaluation.return_mean": {10: 1.0}, ...}, seconds={10: 1}, episodes=[3, 4], seed=1)`` -> a finished run."""
    numbers = itertools.count()

    def made(
        curves: dict[str, dict[int, Any]],
        seconds: dict[int, float] | None = None,
        episodes: list[int] = [],  # noqa: B006 never changed
        status: str = "finished",
        sweep: Path | None = None,
        **settings: Any,
    ) -> Record:
        settings.setdefault("name", "x")
        directory = tmp_path / f"run{next(numbers)}"
        directory.mkdir()
        run = Run.create(config_of(settings, {"outputs": str(tmp_path)}), {}, directory=directory)
        rows = [
            {"type": key.partition(".")[0], "frames": frames, key.partition(".")[2]: value}
            for key, points in curves.items()
            for frames, value in points.items()
        ]
        (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        clock = [{"frames": frames, "seconds": value} for frames, value in (seconds or {}).items()]
        (directory / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clock))
        lines = [f"{number},{number},{float(value)},{value}\n" for number, value in enumerate(episodes, 1)]
        (directory / "episodes.csv").write_text("episode,frames,return,length\n" + "".join(lines))
        run.update(status=status)
        return read_record(directory, sweep)

    return made


@pytest.fixture(autouse=True)
def paper() -> Iterator[None]:
    with canvas.drawing():
        yield


def drawn(records: list[Record], *names: str) -> dict[str, Figure]:
    return {picture.name: picture.figure for picture in draw(records, names or tuple(FIGURES))}


def points(line: Any) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def split(line: Any) -> list[tuple[list[float], list[float]]]:
    """The lines that were joined to one with gaps."""
    where, values = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    gaps = np.flatnonzero(np.isnan(where))
    assert gaps[-1] == len(where) - 1 and np.isnan(values[gaps]).all()
    starts = [0, *(gaps[:-1] + 1)]
    return [(where[a:b].tolist(), values[a:b].tolist()) for a, b in zip(starts, gaps, strict=True)]


def texts(figure: Figure) -> str:
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([*(text.get_text() for text in figure.texts), *legends]).replace("\n", " ")


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]


def boxes(figure: Figure) -> dict[str, list[Any]]:
    """Where the texts of a figure are, in pixels; texts of one list are not to overlap."""
    figure.draw_without_rendering()
    found: dict[str, list[Any]] = {"column": []}
    for number, axes in enumerate(figure.axes):
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            labels = [label for label in axis.get_ticklabels() if label.get_text()]
            found[f"{name} of {number}"] = [label.get_window_extent() for label in labels]
        found["column"].append(axes.get_tightbbox())
    found["column"] += [text.get_window_extent() for text in figure.texts]
    found["column"] += [legend.get_window_extent() for legend in figure.legends]
    return found


def assert_readable(figure: Figure) -> None:
    """No text overlaps another, and none leaves the paper."""
    paper = figure.bbox
    for place, several in boxes(figure).items():
        for left, right in itertools.combinations(several, 2):
            assert not left.padded(-1).overlaps(right.padded(-1)), (place, left, right)
        for box in several:
            assert box.x0 >= paper.x0 - 1 and box.x1 <= paper.x1 + 1, (place, box)
            assert box.y0 >= paper.y0 - 1 and box.y1 <= paper.y1 + 1, (place, box)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_running_mean_by_hand() -> None:
    assert running_mean(np.array([1.0, 2.0, 6.0, 10.0]), 2).tolist() == [1.0, 1.5, 4.0, 8.0]
    assert running_mean(np.array([2.0]), 100).tolist() == [2.0]
    assert running_mean(np.array([]), 2).tolist() == []


def test_the_curve_of_one_run_against_frames_and_against_time(make: Make) -> None:
    run = make({"evaluation.return_mean": {100: 1.0, 200: 5.0}}, seconds={100: 60, 200: 240})
    frames, time = drawn([run], "returns")["returns"].axes
    assert points(frames.lines[0]) == ([100, 200], [1.0, 5.0])
    assert points(time.lines[0]) == ([1.0, 4.0], [1.0, 5.0])  # minutes
    assert (frames.get_xlabel(), time.get_xlabel()) == ("frames", "training time (minutes)")


@pytest.mark.parametrize(("longest", "unit", "value"), [(90, "seconds", 90), (7300, "hours", 7300 / 3600)])
def test_units_of_time(make: Make, longest: float, unit: str, value: float) -> None:
    (figure,) = drawn([make({"train.return_mean": {10: 1.0}}, seconds={10: longest})], "returns").values()
    assert figure.axes[1].get_xlabel() == f"training time ({unit})"
    assert points(figure.axes[1].lines[0])[0] == [value]


def test_seeds_become_their_iqm_its_interval_and_thin_lines(make: Make) -> None:
    values = {1: (0.0, 0.0), 2: (2.0, 10.0), 3: (4.0, 20.0), 4: (100.0, 1000.0)}
    runs = [make({"evaluation.return_mean": {10: a, 20: b}}, seed=seed) for seed, (a, b) in values.items()]
    axes = drawn(runs, "returns")["returns"].axes[0]
    thin, thick = sorted(axes.lines, key=lambda line: line.get_linewidth())
    assert points(thick) == ([10, 20], [3.0, 15.0])  # without the lowest and the highest
    assert split(thin) == [([10, 20], list(each)) for each in values.values()]
    (band,) = [each for each in axes.collections if isinstance(each, PolyCollection)]
    corners = band.get_paths()[0].vertices
    assert corners[:, 0].min() == 10 and corners[:, 0].max() == 20
    at_20 = corners[corners[:, 0] == 20][:, 1]
    assert 0 <= at_20.min() < 15 < at_20.max() <= 1000


def test_a_single_evaluation_of_seeds_has_a_bar_and_dots(make: Make) -> None:
    values = (0.0, 2.0, 4.0, 100.0)
    runs = [make({"evaluation.return_mean": {10: value}}, seed=seed) for seed, value in enumerate(values)]
    figure = drawn(runs, "returns")["returns"]
    dots, middle = sorted(figure.axes[0].lines, key=lambda line: line.get_markersize())
    assert points(middle) == ([10], [3.0])
    assert split(dots) == [([10], [value]) for value in values] and dots.get_marker() == "."
    (bar,) = [each for each in figure.axes[0].collections if isinstance(each, LineCollection)]
    ((low, high),) = bar.get_segments()
    assert low[0] == high[0] == 10 and 0 <= low[1] < 3 < high[1] <= 100
    assert "Band or bar: its 95 % bootstrap interval. Thin or small dots: single seeds." in texts(figure)
    assert_readable(figure)


def test_single_evaluations_of_settings_are_beside_each_other(make: Make) -> None:
    runs = [
        make({"evaluation.return_mean": {10: 3.0}}, seed=seed, algo={"name": "dqn", "gamma": gamma})
        for gamma in (0.8, 0.9)
        for seed in (0, 1)
    ]
    figure = drawn(runs, "returns")["returns"]
    figure.draw_without_rendering()
    main = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert [points(line) for line in main] == [([10], [3.0])] * 2
    left, right = (line.get_transform().transform((10, 3))[0] for line in main)
    assert right - left == pytest.approx(7 / 72 * figure.dpi)
    assert titles(figure)[0].replace("\n", " ").endswith("single points are drawn beside each other")


def test_seeds_without_a_common_time_are_dots_and_it_is_said(make: Make) -> None:
    runs = [make({"evaluation.return_mean": {10: value}}, {10: value}, seed=value) for value in (1, 3)]
    frames, time = drawn(runs, "returns")["returns"].axes
    assert frames.get_title(loc="left") == "Evaluation return"
    said = time.get_title(loc="left").replace("\n", " ")
    assert said == "Evaluation return; without IQM, as seeds have no time in common"
    (dots,) = time.lines
    assert split(dots) == [([1], [1]), ([3], [3])] and dots.get_marker() == "."


def test_a_run_that_failed_early_does_not_cut_off_the_others(make: Make) -> None:
    runs = [make({"train.loss": {10: 1.0, 20: 2.0, 30: seed}}, seed=seed) for seed in (3, 5)]
    runs.append(make({"train.loss": {10: 50.0}}, seed=7, status="failed"))
    figure = drawn(runs, "losses")["losses"]
    thin, dots, thick = sorted(figure.axes[0].lines, key=lambda line: line.get_linewidth())
    assert points(thick) == ([10, 20, 30], [1.0, 2.0, 4.0])
    assert len(split(thin)) == 2 and split(dots) == [([10], [50.0])]
    assert "1 of 3 runs did not finish" in texts(figure)


def test_runs_none_of_which_finished_are_drawn(make: Make) -> None:
    runs = [make({"train.loss": {10: seed, 20: seed}}, seed=seed, status="stopped") for seed in (1, 3)]
    thick = max(drawn(runs, "losses")["losses"].axes[0].lines, key=lambda line: line.get_linewidth())
    assert points(thick) == ([10, 20], [2.0, 2.0])


def test_speed_is_frames_over_seconds_between_rows(make: Make) -> None:
    run = make({}, seconds={100: 1.0, 300: 2.0, 400: 2.0})  # the last took no time: its speed is not known
    (figure,) = drawn([run], "diagnostics").values()
    assert titles(figure) == ["Speed (frames per second)"]
    assert points(figure.axes[0].lines[0]) == ([100, 300], [100.0, 200.0])


def test_speed_before_learning_starts_does_not_flatten_the_rest(make: Make) -> None:
    times = {100: 0.01} | {100 * number: float(number) for number in range(2, 42)}  # 10,000, then 50.3 and 100 a second
    axes = drawn([make({}, seconds=times)], "diagnostics")["diagnostics"].axes[0]
    assert axes.get_title(loc="left").replace("\n", " ") == "Speed (frames per second); 1 point is higher"
    assert axes.get_ylim() == (0, pytest.approx(130))
    even = drawn([make({}, seconds={100: 1.0, 200: 2.0, 300: 3.0})], "diagnostics")["diagnostics"]
    assert titles(even) == ["Speed (frames per second)"]


def test_episodes_of_one_run_as_in_the_dqn_tutorial(make: Make) -> None:
    lengths = [10] * 100 + [110] * 50
    (figure,) = drawn([make({}, episodes=lengths)], "episodes").values()
    assert titles(figure) == ["Episode durations (steps)"]  # returns say the same
    mean, single = sorted(figure.axes[0].lines, key=lambda line: -line.get_linewidth())
    assert points(single) == (list(range(1, 151)), lengths)
    assert points(mean)[1][99:] == pytest.approx([10 + number for number in range(51)])


def test_episodes_of_seeds_are_running_means(make: Make) -> None:
    runs = [make({}, episodes=[value] * 3, seed=value) for value in (1, 3)]
    axes = drawn(runs, "episodes")["episodes"].axes[0]
    thin, thick = sorted(axes.lines, key=lambda line: line.get_linewidth())
    assert points(thick) == ([1, 2, 3], [2, 2, 2])
    assert [values for _, values in split(thin)] == [[1, 1, 1], [3, 3, 3]]


def test_the_four_panels_of_the_ppo_tutorial(make: Make) -> None:
    curves = {
        "train.reward_mean": {10: 0.5}, "train.length_max": {10: 7}, "evaluation.return_mean": {10: 3.0},
        "evaluation.length_max": {10: 9},
    }  # fmt: skip
    axes = drawn([make(curves, **PPO)], "four_panels")["four_panels"].axes
    assert [points(each.lines[0])[1] for each in axes] == [[0.5], [7], [3.0], [9]]
    assert not drawn([make({"train.length_max": {10: 7}}, **DQN)], "four_panels")  # no reward: not that tutorial


def test_long_lines_keep_their_extremes(make: Make) -> None:
    lengths = [5] * 30_000
    lengths[12_345], lengths[23_456] = 1, 99
    axes = drawn([make({}, episodes=lengths)], "episodes")["episodes"].axes[0]
    single = min(axes.lines, key=lambda line: line.get_linewidth())
    where, values = points(single)
    assert len(where) <= 2000 and (where[0], where[-1]) == (1, 30_000)
    assert (where[int(np.argmin(values))], where[int(np.argmax(values))]) == (12_346, 23_457)


# --- odd data ---------------------------------------------------------------------------------------------------------


def test_what_is_not_finite_is_left_out_and_said(make: Make) -> None:
    run = make({"train.loss": {10: 1.0, 20: math.nan, 30: math.inf, 40: 2.0, 50: 1e200, 60: 10**400}})
    (figure,) = drawn([run], "losses").values()
    assert points(figure.axes[0].lines[0]) == ([10, 40], [1.0, 2.0])
    assert titles(figure) == ["Loss; 3 not finite"]
    assert not drawn([make({"train.loss": {10: math.nan}})], "losses")


def test_one_point_is_seen(make: Make) -> None:
    axes = drawn([make({"evaluation.return_mean": {20_000: 500.0}})], "returns")["returns"].axes[0]
    assert axes.lines[0].get_marker() not in ("", "None") and points(axes.lines[0]) == ([20_000], [500.0])


@pytest.mark.parametrize("value", [1e12, -1e12, 1e-9, 0.0, 1e90, -(10**20), 0.00025, 1e6 + 0.5])
def test_numbers_of_any_size_can_be_read(make: Make, value: float) -> None:
    curve = {1_000: value, 5_000_000_000: value * 1.5}
    (figure,) = drawn(
        [make({"evaluation.return_mean": curve}, seconds={10: 1e7, 5_000_000_000: 2e7})], "returns"
    ).values()
    assert_readable(figure)


def test_explained_variance_is_cut_where_it_says_nothing_and_says_so(make: Make) -> None:
    figure = drawn([make({"train.explained_variance": {10: -1e6, 20: 0.5}})], "diagnostics")["diagnostics"]
    assert figure.axes[0].get_ylim()[0] == -1 and titles(figure)[0].endswith("below -1 not shown")
    good = drawn([make({"train.explained_variance": {10: 0.1, 20: 0.5}})], "diagnostics")["diagnostics"]
    assert good.axes[0].get_ylim()[0] > 0 and "not shown" not in titles(good)[0]


def test_runs_without_any_rows_draw_nothing(make: Make) -> None:
    assert not drawn([make({}), make({}, seed=1)])


def test_damage_is_an_error(make: Make) -> None:
    run = make({"train.loss": {10: 1.0}})
    (run.directory / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ResumeError, match="line 1"):
        drawn([run])


# --- groups -----------------------------------------------------------------------------------------------------------


def test_each_environment_has_figures_of_its_own(make: Make) -> None:
    cartpole = make({"evaluation.return_mean": {10: 500.0}, "train.loss": {10: 1.0}})
    other = make({"evaluation.return_mean": {10: -1e6}}, env={"id": "Pendulum-v1"}, **PPO)
    figures = drawn([cartpole, other], "returns", "losses")
    assert set(figures) == {"returns_CartPole-v1", "losses_CartPole-v1", "returns_Pendulum-v1"}
    assert points(figures["returns_CartPole-v1"].axes[0].lines[0])[1] == [500.0]
    assert texts(figures["returns_Pendulum-v1"]).startswith("PPO on Pendulum-v1, seed 0")


def test_losses_of_two_algorithms_are_apart_and_their_returns_together(make: Make) -> None:
    curves = {"evaluation.return_mean": {10: 1.0}, "train.loss": {10: 1.0}}
    figures = drawn([make(curves, **DQN), make(curves, **PPO)], "returns", "losses")
    assert set(figures) == {"returns", "losses_dqn", "losses_ppo"}
    assert texts(figures["returns"]).startswith("DQN and PPO on CartPole-v1, 2 settings")
    assert texts(figures["losses_dqn"]) == "DQN on CartPole-v1, seed 0 run0 (finished)"
    colors = [figures[name].axes[0].lines[0].get_color() for name in ("losses_dqn", "losses_ppo")]
    assert colors == [line.get_color() for line in figures["returns"].axes[0].lines]


def test_environments_whose_names_make_one_file_name_make_two_files(make: Make) -> None:
    runs = [make({"train.loss": {10: 1.0}}, env={"id": name}) for name in ("A/v1", "A:v1", "a v1")]
    assert list(drawn(runs, "losses")) == ["losses_A-v1", "losses_A-v1-1", "losses_a-v1-2"]


def test_settings_differ_in_dashes_markers_and_colour(make: Make) -> None:
    runs = [
        make({"evaluation.return_mean": {10: 1.0, 20: 2.0, 30: rate}}, algo={"name": "dqn", "learning_rate": rate})
        for rate in np.linspace(0.1, 0.7, len(STYLES))
    ]
    axes = drawn(runs, "returns")["returns"].axes[0]
    looks = [(str(line.get_linestyle()), str(line._dash_pattern), line.get_marker()) for line in axes.lines]  # type: ignore[attr-defined]
    assert len({(dashes, marker) for _, dashes, marker in looks}) == len(STYLES)
    assert len({marker for _, _, marker in looks}) == len(STYLES)
    assert len({line.get_color() for line in axes.lines}) == len(STYLES)


def test_of_too_many_settings_the_best_are_drawn_and_the_rest_is_counted(make: Make) -> None:
    returns = {rate: float(rate * 37 % 100) for rate in range(1, 101)}
    runs = [
        make({"evaluation.return_mean": {10: 0.0, 20: value}}, algo={"name": "dqn", "learning_rate": rate / 1000})
        for rate, value in returns.items()
    ]
    (figure,) = drawn(runs, "returns").values()
    shown = [points(line)[1][-1] for line in figure.axes[0].lines]
    assert sorted(shown) == [93, 94, 95, 96, 97, 98, 99]
    assert "Not drawn: 93 more. Those drawn are among the 7 with the highest last returns." in texts(figure)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    chosen = [rate for rate, value in returns.items() if value >= 93]
    assert labels == [f"learning_rate={rate / 1000} (seed 0)" for rate in chosen]
    assert_readable(figure)


def test_training_episodes_are_not_ranked_above_evaluations(make: Make) -> None:
    records = [make({"train.return_mean": {1: 1000.0 + n}}, name=f"train{n}") for n in range(len(STYLES))]
    records += [make({"evaluation.return_mean": {1: 1.0}}, name="evaluated")]
    figure = drawn(records, "returns")["returns"]
    assert "evaluated" in texts(figure) and "train0" not in texts(figure) and "Not drawn: 1 more" in texts(figure)


def test_the_title_says_what_is_shown(make: Make) -> None:
    runs = [make({"train.return_mean": {10: 1.0}}, seed=seed) for seed in range(3)]
    figure = drawn(runs, "returns")["returns"]
    assert texts(figure).startswith("DQN on CartPole-v1, 3 seeds Thick: interquartile mean (IQM) over seeds")
    assert "95 % bootstrap interval" in texts(figure)
    again = [make({"train.return_mean": {10: 1.0}}, seed=7) for _ in range(2)]
    assert texts(drawn(again, "returns")["returns"]).startswith("DQN on CartPole-v1, 2 runs ")
    alone = drawn(runs[:1], "returns")["returns"]
    assert texts(alone) == "DQN on CartPole-v1, seed 0 run0 (finished)"


# --- looks ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "$\\frac{", "<script>alert(1)</script>", "--><b>&amp;", "W" * 300, "a b " * 100, "]]>", "\u202eevil", "名前 🐈",
    "x\n\ty", '"\' onload=', "_^{", "%s{}",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_anybody_are_only_text(make: Make, name: str, tmp_path: Path) -> None:
    runs = [make({"train.loss": {10: 1.0, 20: 2.0}}) for _ in range(2)]
    for number, run in enumerate(runs):
        hostile = {"algo": name, "env_id": name, "name": name}
        (run.directory / "run.json").write_text(json.dumps(run.manifest | hostile))
        (run.directory / "config.yaml").write_bytes(
            to_yaml({"seed": 0, "name": name + str(number), "env": {"id": name}})
        )
    pictures = list(draw([read_record(run.directory) for run in runs]))
    assert pictures
    for picture in pictures:
        assert_readable(picture.figure)
        assert ", 2 settings" in texts(picture.figure) and texts(picture.figure).count("(seed 0)") == 2
        files = save(picture, tmp_path, ("png", "svg"))
        assert [file.parent for file in files] == [tmp_path, tmp_path]
        assert files[0].read_bytes().startswith(b"\x89PNG\r\n")
        root = ElementTree.fromstring(files[1].read_bytes())  # noqa: S314 our own
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {
            "svg",
            "metadata",
            "RDF",
            "Work",
            "type",
            "format",
            "defs",
            "style",
            "g",
            "path",
            "use",
            "clipPath",
            "rect",
        }
        attributes = {name for element in root.iter() for name in element.attrib}
        assert not [name for name in attributes if name.startswith("on")]


def test_frames_are_plain_numbers_with_thousands(make: Make) -> None:
    figure = drawn([make({"evaluation.return_mean": {1000: -20_000.0, 100_000: 10_000.0}})], "returns")["returns"]
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["0", "25,000", "50,000", "75,000", "100,000"]
    assert "-20,000" in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_plain_numbers() -> None:
    assert plain_numbers([0, 20_000, 40_000]) == ["0", "20,000", "40,000"]
    assert plain_numbers([-0.5, -0.0, 0.25]) == ["-0.50", "0.00", "0.25"]
    assert plain_numbers([0.0, 0.0001, 0.0002]) == ["0.0000", "0.0001", "0.0002"]
    assert plain_numbers([0.0, 2e-9]) == ["0", "2e-09"]
    assert plain_numbers([1e16]) == ["1e+16"]
    assert plain_numbers([7]) == ["7"] and plain_numbers([]) == []


def test_texts_are_wrapped_at_spaces_and_end_where_they_must() -> None:
    assert wrapped("one two", 500, 9) == ["one two"]
    assert wrapped("aaa bbb ccc", 40, 9) == ["aaa bbb", "ccc"]
    long = wrapped("W" * 200, 100, 9)
    assert len(long) == 4 and long[-1].endswith("...")
    assert wrapped("", 100, 9) == [""]


def test_equal_runs_give_equal_files(make: Make, tmp_path: Path) -> None:
    run = make({"evaluation.return_mean": {10: 1.0, 20: 2.0}})
    both = []
    for _ in range(2):
        (picture,) = draw([read_record(run.directory)], ("returns",))
        both.append([file.read_bytes() for file in save(picture, tmp_path, ("png", "svg"))])
    assert both[0] == both[1]


def test_settings_of_the_user_change_nothing(make: Make, tmp_path: Path) -> None:
    import matplotlib

    run = make({"evaluation.return_mean": {10: 1.0, 20: 2.0}})
    plain = canvas.pictures(next(draw([run], ("returns",))).figure, ("svg",))
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 40}), canvas.drawing():
        assert canvas.pictures(next(draw([run], ("returns",))).figure, ("svg",)) == plain


def test_settings_in_the_current_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 77\n")
    code = (
        "import os; from rlrun.reports.canvas import drawing\n"
        "with drawing(): import matplotlib\n"
        "assert os.path.exists('matplotlibrc'); print(matplotlib.rcParamsOrig['font.size'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert float(done.stdout) != 77, done.stderr


# --- places -----------------------------------------------------------------------------------------------------------


def test_links_planted_in_a_run_lead_nowhere(make: Make, tmp_path: Path) -> None:
    run = make({"train.loss": {10: 1.0}})
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place = own_folder(run.directory, "plots")
    (place / "losses.png").symlink_to(victim)
    (picture,) = draw([run], ("losses",))
    (path,) = save(picture, place, ("png",))
    assert path.is_file() and not path.is_symlink()  # replaced
    path.unlink()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(StorageError, match="symbolic link"):
        own_folder(run.directory, "plots")
    assert victim.read_text() == "precious" and not (tmp_path / "losses.png").exists()


def test_a_file_in_place_of_the_folder_is_named(make: Make) -> None:
    run = make({})
    (run.directory / "plots").write_text("")
    with pytest.raises(StorageError, match="plots"):
        own_folder(run.directory, "plots")
