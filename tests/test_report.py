"""``rlrun report``: what is in the page, what it is worth, and what it must never do. Looked at by a browser in test_report_browser.py."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Answer
from reports import HOSTILE, grid, made, write_rows

from rlrun.reports.html import lines, study, videos
from rlrun.reports.html.commands import run_command, sweep_command
from rlrun.reports.html.markup import Html, data, join, shown_seconds, shown_value, tag
from rlrun.reports.html.material import Material, material_of
from rlrun.reports.html.page import page_of, policy
from rlrun.reports.records import select

Command = Callable[..., Answer]


@pytest.fixture
def outputs(workplace: Path) -> Path:
    return workplace / "outputs"


def material(outputs: Path, *selectors: str) -> Material:
    return material_of(select(selectors or ("*",), outputs))


def page(outputs: Path, *selectors: str) -> str:
    return page_of(material(outputs, *selectors), str).decode()


def own(text: str) -> str:
    """The page without Plotly's script, which is most of it."""
    start = text.index("<script>") + len("<script>")
    return text[:start] + text[text.index("</script>", start) :]


class Structure(HTMLParser):
    """Elements, the names of their attributes, and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, tuple(key for key, _ in attributes)))
        self.values += [value or "" for key, value in attributes if key in ("src", "href")]

    def handle_data(self, text: str) -> None:
        self.text += text


# --- markup ----------------------------------------------------------------------------------------------------------


def test_text_is_text() -> None:
    assert tag("p", {"title": '"<'}, "<b>", Html("<i>"), 1, None) == '<p title="&quot;&lt;">&lt;b&gt;<i>1</p>'
    assert tag("input", {"checked": True, "hidden": False, "id": None}) == "<input checked>"
    assert join("a\u202eb\x00c") == "abc"
    held = data("data", {"a": "</script><!--&\u2028"})
    assert held.count("<") == 2 and held.count(">") == 2 and "&" not in held
    assert json.loads(held[held.index(">") + 1 : held.rindex("<")]) == {"a": "</script><!--&\u2028"}


def test_values_are_shown_as_they_are_typed() -> None:
    values = [None, True, [None, 64], 0.001, 1.0, 1e6, "x", 1e-08]
    assert [shown_value(value) for value in values] == [
        "-",
        "true",
        "[null,64]",
        "0.001",
        "1.0",
        "1000000",
        "x",
        "1e-08",
    ]
    assert [shown_seconds(value) for value in (4.24, 200, 3725, None)] == ["4.2 s", "3 min 20 s", "1 h 02 min", "-"]


# --- importance and the heat map -------------------------------------------------------------------------------------


def test_share_of_variance_by_hand() -> None:
    # mean 4; around it 9 + 1 + 1 + 9 = 20, of which between the means 2 and 6 of two each: 4 * 4 = 16
    share = study.explained([0, 0, 1, 1], [1, 3, 5, 7])
    assert share == study.Share(pytest.approx(0.8), pytest.approx(1 / 3))
    assert study.explained([0, 1, 0, 1], [1, 1, 3, 3]) == study.Share(0.0, pytest.approx(1 / 3))
    assert study.explained([0, 0, 1, 1], [5, 5, 5, 5]) is None  # nothing to explain
    assert study.explained([0, 1, 2], [1, 2, 3]) is None  # each run its own value
    assert study.explained([0, 0, 0], [1, 2, 3]) is None


def test_chance_is_what_a_useless_setting_gets_on_average() -> None:
    generator = np.random.default_rng(0)
    levels = np.repeat(np.arange(4), 5)
    shares = [study.explained(levels.tolist(), generator.normal(size=20)) for _ in range(2000)]
    assert np.mean([share.share for share in shares if share]) == pytest.approx(3 / 19, abs=0.01)


def test_importance_of_a_grid_by_hand(outputs: Path) -> None:
    grid(outputs)
    (found,) = study.studies_of(material(outputs))
    assert [each.key for each in found.settings] == ["algo.learning_rate", "algo.gamma"]
    shares, together, count = study.importance(found)
    # deviations from the mean: 25 by rate, 5 by discount, 0.5 by seed; all independent
    total = 625 + 25 + 0.25
    assert count == 8
    assert [(each.key, share and share.share) for each, share in shares] == [
        ("algo.learning_rate", pytest.approx(625 / total)),
        ("algo.gamma", pytest.approx(25 / total)),
    ]
    assert together is not None and together.share == pytest.approx(650 / total)


def test_heat_map_has_the_middle_of_the_finished_runs(outputs: Path) -> None:
    runs = grid(outputs)
    failed = [run for run in runs if run.config.seed == 1 and run.config.algo.learning_rate == 0.01]
    for run in failed:
        run.update(status="failed")
    all_of_it = material(outputs)
    (pair,) = study.chart_numbers(study.studies_of(all_of_it)[0], all_of_it)["pairs"]
    assert pair["z"] == [[50.5, 100.0], [60.5, 110.0]]  # discounts up, rates across in the order of numbers
    assert pair["count"] == [[2, 1], [2, 1]]


def test_settings_that_change_together_are_one(outputs: Path) -> None:
    for seed in (0, 1):
        made(outputs, "s", 1.0, seed=seed, algo={"name": "dqn", "gamma": 0.9, "tau": 0.1})
        made(outputs, "s", 2.0, seed=seed, algo={"name": "dqn", "gamma": 0.8, "tau": 0.2}, evaluation={"episodes": 3})
    (found,) = study.studies_of(material(outputs))
    assert [(each.key, each.together) for each in found.settings] == [("algo.gamma", ["algo.tau"])]


def test_numbers_drawn_at_random_become_ranges(outputs: Path) -> None:
    rates = [0.001 * (1 + index) for index in (11, 3, 7, 1, 9, 5, 0, 10, 2, 8, 4, 6)]
    for rate in rates:
        made(outputs, "s", rate, algo={"name": "dqn", "learning_rate": rate})
    (found,) = study.studies_of(material(outputs))
    (setting,) = found.settings
    assert setting.levels == ["0.001 to 0.003", "0.004 to 0.006", "0.007 to 0.009", "0.01 to 0.012"]
    order = [member.record.settings["algo.learning_rate"] for member in found.members]
    assert setting.level == [round(rate * 1000 - 1) // 3 for rate in order]


def test_environments_are_studied_apart(outputs: Path) -> None:
    for env in ("CartPole-v1", "Acrobot-v1"):
        for gamma in (0.9, 0.8):
            made(outputs, "s", 1.0, env={"id": env}, algo={"name": "dqn", "gamma": gamma})
    found = study.studies_of(material(outputs))
    assert {each.environment for each in found} == {"CartPole-v1", "Acrobot-v1"}
    assert [[setting.key for setting in each.settings] for each in found] == [["algo.gamma"]] * 2


# --- curves ----------------------------------------------------------------------------------------------------------


def test_curves_of_groups_and_runs(outputs: Path) -> None:
    grid(outputs)
    found = lines.lines_of(material(outputs))
    entry = found["metrics"][0]
    assert entry["label"] == "evaluation: return"
    first = entry["groups"][0]
    assert found["places"][first["x"]] == [0, 50, 100] and first["count"] == 2
    assert first["y"] == [0, 50.25, 100.5] and first["low"] == [0, 50, 100] and first["high"] == [0, 50.5, 101]
    assert found["places"][entry["clock"][0]["x"]] == [0, 0.5, 1]
    assert len(entry["runs"]) == 8 and {line["x"] for line in entry["runs"]} == {first["x"]}  # the places are kept once
    assert found["notes"] == []


def test_a_run_that_failed_does_not_cut_the_curve_of_its_setting(outputs: Path) -> None:
    for seed in (0, 1):
        made(outputs, "s", 1.0, [(0, 0.0), (100, 2.0 + seed)], seed=seed)
    made(outputs, "s", None, [(0, 0.0), (10, 9.0)], seed=2)
    (entry,) = (each for each in lines.lines_of(material(outputs))["metrics"] if each["label"] == "evaluation: return")
    assert entry["groups"][0]["y"] == [0, 2.5] and entry["groups"][0]["count"] == 2 and len(entry["runs"]) == 3


def test_long_curves_are_thinned_and_it_is_said(outputs: Path) -> None:
    made(outputs, "", 1.0, [(frames, float(frames)) for frames in range(1001)])
    found = lines.lines_of(material(outputs))
    (line,) = found["metrics"][0]["runs"]
    assert len(line["y"]) == lines.MOST_POINTS and (line["y"][0], line["y"][-1]) == (0, 1000)
    assert found["notes"] == [f"Curves of single runs are thinned to {lines.MOST_POINTS} points each, evenly spaced."]


def test_many_runs_and_metrics_are_limited_and_it_is_said(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_SINGLE", 3)
    monkeypatch.setattr(lines, "MOST_METRICS", 1)
    grid(outputs)
    found = lines.lines_of(material(outputs))
    assert [len(entry["runs"]) for entry in found["metrics"]] == [3]
    assert "first 3 of 8 runs" in found["notes"][0] and found["notes"][1].startswith("1 more metrics")


def test_numbers_that_are_none_leave_no_mark(outputs: Path) -> None:
    run = made(outputs, "", 1.0)
    write_rows(run, [
        {"type": "train", "frames": 1, "loss": None, "nonfinite": {"loss": "nan"}},
        {"type": "train", "frames": 2, "loss": 3.5},
        {"type": "other", "frames": 3, "loss": 1.0},
    ])  # fmt: skip
    (entry,) = lines.lines_of(material(outputs))["metrics"]
    assert entry["label"] == "training: loss" and entry["runs"][0]["y"] == [3.5]


# --- settings, commands, videos --------------------------------------------------------------------------------------


def test_settings_that_differ_and_that_are_no_defaults_are_marked(outputs: Path) -> None:
    grid(outputs)
    text = own(page(outputs))
    text = text[text.index('<section id="Settings"') : text.index("<footer")]

    def row(key: str) -> str:
        match = re.search(rf'<tr[^>]*><th scope="row"><code>{re.escape(key)}</code>.*?</tr>', text)
        assert match
        return match[0]

    assert '<tr class="differs own">' in row("algo.gamma") and "0.9<small> (4)</small>" in row("algo.gamma")
    assert '<tr class="own">' in row("device") and ">auto<" in row("device")  # cpu here
    assert "<tr><th" in row("algo.tau")
    assert text.count('class="differs') == 3  # and the seed


def test_a_setting_that_is_not_set_is_a_dash_everywhere(outputs: Path) -> None:
    for at in (None, 5, 7):
        made(outputs, "s", 1.0, env={"name": "x", "kwargs": {"at": at, "text": "a"}})
        made(outputs, "s", 1.0, env={"name": "x", "kwargs": {"at": at, "text": "b"}})
    (found,) = study.studies_of(material(outputs))
    assert {each.key: each.levels for each in found.settings}["env.kwargs.at"] == ["-", "5", "7"]
    text = page(outputs)
    assert '<th scope="col" data-key="env.kwargs.at" title="env.kwargs.at">kwargs.at</th>' in text
    assert '<span class="value">-<small> (2)</small></span>' in text and ">null<" not in text


def test_best_is_said_of_a_run_and_highest_of_several(outputs: Path) -> None:
    grid(outputs)
    text = page(outputs)
    heads = [part[part.index("<thead>") : part.index("</thead>")] for part in text.split("<table")[1:3]]
    assert ">highest<" in heads[0] and ">best<" not in heads[0] and ">best<" in heads[1]


def test_settings_of_one_algorithm_only_do_not_differ(outputs: Path) -> None:
    made(outputs, "", 1.0, algo={"name": "dqn"})
    made(outputs, "", 1.0, algo={"name": "ppo"})
    text = own(page(outputs))
    assert re.search(r'<tr><th scope="row"><code>algo\.tau</code>', text)
    assert re.search(r'<tr class="differs"><th scope="row"><code>algo\.name</code>', text)


def test_commands_are_those_that_were_typed(outputs: Path) -> None:
    grid(outputs)
    members = material(outputs).members
    whole = sweep_command(members)
    assert whole == "rlrun -m algo=dqn seed=0,1 algo.learning_rate=0.01,0.001 algo.gamma=0.9,0.99"
    assert sweep_command(members[1:]) is None  # not all combinations
    run = made(outputs, "", 1.0, manifest={"overrides": ["name='a b'", "env.kwargs.x=$(touch y)", 3]}, seed=7)
    (member,) = material(outputs, str(run.directory)).members
    assert shlex.split(run_command(member)) == ["rlrun", "name='a b'", "env.kwargs.x=$(touch y)", "seed=7"]
    text = own(page(outputs, str(run.directory)))
    assert f"rlrun reproduce {run.directory}" in text and f"rlrun eval {run.directory}" in text


def test_foreign_overrides_are_not_offered(outputs: Path) -> None:
    evil = ["--config-dir=/tmp/evil", "env.allow_import=evil", "algo=dqn", "hydra.searchpath=[pkg://evil]"]
    run = made(outputs, "", 1.0, manifest={"overrides": evil}, seed=7)
    (member,) = material(outputs, str(run.directory)).members
    assert run_command(member) == "rlrun algo=dqn seed=7"
    assert sweep_command([member]) == "rlrun -m algo=dqn seed=7"
    note = "no plain setting, or yours to choose (outputs, logger), and left out"
    text = page(outputs, str(run.directory))
    assert note in text and "pkg://" not in own(text)
    other = made(outputs, "", 1.0, manifest={"overrides": ["algo=dqn"]}, seed=8)
    assert "left out of the commands" not in page(outputs, str(other.directory))


@pytest.mark.parametrize("stored", [5, "ab", {"a": 1}, [3, None]])
def test_overrides_may_be_anything(stored: Any, outputs: Path) -> None:
    for gamma in (0.9, 0.99):
        run = made(outputs, "s", 1.0, manifest={"overrides": stored}, algo={"name": "dqn", "gamma": gamma})
        assert json.loads((run.directory / "run.json").read_text())["overrides"] == stored
    text = own(page(outputs))
    assert "rlrun seed=0" in text and "algo.gamma" in text


@pytest.mark.parametrize(("jobs", "noted"), [(4, True), (3, False), (True, False), (10**400, False), ("9", False)])
def test_a_sweep_of_which_runs_are_missing_says_so(jobs: Any, noted: bool, outputs: Path) -> None:
    for seed in (0, 1, 2):
        made(outputs, "s", 1.0, manifest={"overrides": [f"seed={seed}"], "job": seed + 1, "jobs": jobs}, seed=seed)
    text = own(page(outputs))
    assert "rlrun -m seed=0,1,2" in text
    assert ("not the whole sweep: of its 4 jobs 3 can be read" in text) is noted


def test_lists_are_not_taken_for_values_of_a_sweep(outputs: Path) -> None:
    for hidden in ("[8,8]", "[4]"):
        made(outputs, "s", 1.0, manifest={"overrides": ["seed=0", f"network.hidden={hidden}"]})
    assert sweep_command(material(outputs).members) is None


def test_videos_are_embedded_as_far_as_they_are_small(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "MOST_BYTES", 40)
    run = made(outputs, "", 1.0)
    folder = run.directory / "videos"
    folder.mkdir()
    film = b"\0\0\0\x20ftypisom" + b"x" * 20
    (folder / "a.mp4").write_bytes(film)
    (folder / "b.gif").write_bytes(b"GIF89a")
    (folder / "large.mp4").write_bytes(film + b"y" * 20)
    (folder / "page.mp4").write_bytes(b"<script>")
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    found = Structure(own(page(outputs)))
    sources = [value for value in found.values if value.startswith("data:")]
    assert sources == [
        f"data:video/mp4;base64,{base64.b64encode(film).decode()}",
        f"data:image/gif;base64,{base64.b64encode(b'GIF89a').decode()}",
    ]
    assert "large.mp4: too large" in found.text and "page.mp4: its content is no MP4" in found.text
    assert "link.mp4" not in found.text


def test_all_videos_together_are_limited(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "MOST_BYTES_TOGETHER", 10)
    run = made(outputs, "", 1.0)
    (run.directory / "videos").mkdir()
    for name in ("a.gif", "b.gif"):
        (run.directory / "videos" / name).write_bytes(b"GIF89a")
    found = Structure(own(page(outputs)))
    assert len([value for value in found.values if value.startswith("data:")]) == 1 and "b.gif: too large" in found.text


def test_a_folder_of_videos_that_is_a_link_is_left_alone(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.gif").write_bytes(b"GIF89a")
    run = made(outputs, "", 1.0)
    (run.directory / "videos").symlink_to(tmp_path / "elsewhere")
    assert "a.gif" not in own(page(outputs))


# --- what it says of runs --------------------------------------------------------------------------------------------


def test_statistics_are_of_finished_runs(outputs: Path) -> None:
    runs = grid(outputs)
    runs[0].update(status="stopped")
    text = Structure(own(page(outputs))).text
    assert "1 of 2" in text and "7 finished" in text and "1 stopped" in text
    assert "[110.0, 111.0]" in text


def test_failures_are_told_with_their_reasons(outputs: Path) -> None:
    good, bad = made(outputs, "s", 1.0, seed=1), made(outputs, "s", manifest={"failure": "it <b>broke</b>"}, seed=2)
    killed, damaged = made(outputs, "s", 1.0, seed=3), made(outputs, "s", 1.0, seed=4)
    killed.update(status="running")
    (damaged.directory / "run.json").write_text("{")
    text = Structure(own(page(outputs))).text
    assert "it <b>broke</b>" in text and "it has been killed" in text and f"unreadable {damaged.directory.name}" in text
    assert bad.directory.name in text and good.directory.name in text


def test_runs_that_failed_for_the_same_reason_are_told_once(outputs: Path) -> None:
    for seed in range(10):
        made(outputs, "s", manifest={"failure": "boom" if seed else "bang"}, seed=seed)
    text = own(page(outputs))
    text = text[text.index('<section id="Failures"') : text.index('<section id="Returns"')]
    assert text.count("boom") == 1 and "9 failed" in text and "and 1 more" in text
    assert text.count("<li>") == 2


def test_damaged_rows_cost_only_their_curve(outputs: Path) -> None:
    runs = grid(outputs)
    (runs[0].directory / "metrics.jsonl").write_text("{\n")
    all_of_it = material(outputs)
    assert list(all_of_it.problems) == [runs[0].directory.name]
    assert len(lines.lines_of(all_of_it)["metrics"][0]["runs"]) == 7
    assert "not a row of metrics" in own(page(outputs))


def test_a_run_without_evaluations_is_judged_by_its_episodes(outputs: Path) -> None:
    run = made(outputs, manifest={"status": "finished"}, evaluation={"episodes": 0})
    rows = "".join(f"{number},{number},{float(number)},1\n" for number in range(1, 151))
    (run.directory / "episodes.csv").write_text(f"episode,frames,return,length\n{rows}")
    (member,) = material(outputs).members
    assert (member.final, member.measure) == (100.5, "last 100 training episodes")  # of 51 to 150


def unevaluated(outputs: Path, seed: int, return_: float) -> None:
    """A finished run that never evaluates."""
    run = made(outputs, "s", seed=seed, manifest={"status": "finished"}, evaluation={"episodes": 0})
    (run.directory / "episodes.csv").write_text(f"episode,frames,return,length\n1,1,{return_},1\n")


def test_evaluations_are_not_ranked_among_training_episodes(outputs: Path) -> None:
    for seed in (0, 1):
        unevaluated(outputs, seed, 22.5)
        for gamma, value in ((0.8, 9.0), (0.9, 7.0)):
            made(outputs, "s", value + seed, seed=seed, algo={"name": "dqn", "gamma": gamma})
    all_of_it = material(outputs)
    text = Structure(own(page(outputs))).text
    assert "return 9.5 with" in text and "(last evaluation)" in text
    rows = own(page(outputs)).partition('<section id="Returns"')[2].partition("</section>")[0].split("<tr>")[2:]
    assert ["9.5" in rows[0], "7.5" in rows[1], "22.5" in rows[2]] == [True] * 3
    assert ["last evaluation" in row for row in rows] == [True, True, False]
    assert "last 100 training episodes" in rows[2]
    ranked = [all_of_it.ranked_of(number) for number in range(3)]
    assert sorted(value for value in ranked if value is not None) == [7.5, 9.5]
    (found,) = study.studies_of(all_of_it)
    assert (found.measure, len(found.members), found.others) == ("last evaluation", 4, 2)
    assert [each.key for each in found.settings] == ["algo.gamma"]


def test_of_two_runs_of_a_seed_the_newer_counts(outputs: Path) -> None:
    older = made(outputs, "", 10.0, [(0, 0.0), (10, 10.0)], {"created": "2026-01-01"}, device="auto")
    older.update(device="cpu")
    newer = made(outputs, "", 10.0, [(0, 0.0), (10, 10.0)], {"created": "2026-01-02"})
    all_of_it = material(outputs)
    assert [member.counted for member in all_of_it.members] in ([None, 10.0], [10.0, None])
    assert lines.lines_of(all_of_it)["metrics"][0]["groups"][0]["count"] == 1
    text = Structure(own(page(outputs))).text
    assert "1 of 2" in text and "[10.0, 10.0]" not in text
    assert (
        f"{older.directory.name} is left out: a duplicate of {newer.directory.name}: the same settings and seed" in text
    )


def test_a_single_run_says_its_last_and_its_best_return(outputs: Path) -> None:
    made(outputs, "", 1.5, manifest={"status": "failed", "best": {"return_mean": 1234.56, "frames": 4000}})
    assert "1.5 (last evaluation; best 1,234.6 at frame 4,000)" in Structure(own(page(outputs))).text


def test_inexact_runs_say_why(outputs: Path) -> None:
    made(outputs, "", 1.0, manifest={"exact": False, "inexact_because": ["numpy: 1 -> 2"]})
    text = Structure(own(page(outputs))).text
    assert "inexact" in text and "numpy: 1 -> 2" in text


# --- safety ----------------------------------------------------------------------------------------------------------


def hostile(outputs: Path, text: str) -> None:
    """A sweep in which all that may be any text is ``text``."""
    for number in (0, 1):
        manifest = {
            "failure": text,
            "overrides": [f"name={text}", text],
            "versions": {text: text},
            "machine": {"host": text, "processor": text, "cores": text},
            "git": {"sha": text},
            "inexact_because": [text],
            "exact": False,
            "alone": text,
            "implementation": text,
            "tuned": text,
            "experiment": text,
        }
        kwargs = {"text": f"{text}{number}", text[:60]: [text]}
        run = made(outputs, "s", manifest=manifest, env={"id": "Any-v0", "kwargs": kwargs}, seed=number)
        stored = json.loads((run.directory / "run.json").read_text())
        stored |= dict.fromkeys(("id", "algo", "env", "env_id", "name", "device", "created", "updated"), text)
        (run.directory / "run.json").write_text(json.dumps(stored))
        write_rows(run, [{"type": "train", "frames": 1, text: 1.0}])
        (run.directory / "videos").mkdir()
        (run.directory / "videos" / f"{text.replace('/', '')[:60]}.gif").write_bytes(b"GIF8")
    unreadable = made(outputs, "s", seed=9)
    (unreadable.directory / "run.json").write_text(json.dumps({text: text}))


def test_texts_of_a_run_make_no_markup(tmp_path: Path) -> None:
    pages = {}
    for name, text in (("plain", "x" * len(HOSTILE)), ("hostile", HOSTILE)):
        hostile(tmp_path / name, text)
        pages[name] = Structure(own(page(tmp_path / name)))
    assert pages["hostile"].elements == pages["plain"].elements
    assert [value for value in pages["hostile"].values if value[:1] != "#" and value[:15] != "data:image/gif;"] == []
    shown = HOSTILE.translate(dict.fromkeys(map(ord, "\u202e\u2066\u2028")))
    assert pages["hostile"].text.count(shown) > 10


def test_numbers_of_any_size_are_survived(outputs: Path) -> None:
    huge = 10**4000
    run = made(outputs, "", 1.0, algo={"name": "dqn"})
    path = run.directory / "run.json"
    values = {
        "frames": huge,
        "seed": huge,
        "total_frames": huge,
        "wall_seconds": huge,
        "frames_per_second": huge,
        "status": "failed",
    }
    path.write_text(
        json.dumps(
            json.loads(path.read_text())
            | values
            | {"evaluation": {"return_mean": huge}, "best": {"return_mean": 1e308}}
        )
    )
    config = run.directory / "config.yaml"
    config.write_text(config.read_text().replace("gamma: 0.99", f"gamma: {huge}").replace("tau: 0.005", "tau: .nan"))
    write_rows(run, [{"type": "train", "frames": huge, "loss": 1}, {"type": "train", "frames": 1, "loss": huge}])
    made(outputs, "", 1.0)
    text = Structure(own(page(outputs))).text
    assert run.directory.name in text and "after - frames" in text


def test_policy_lets_in_the_scripts_of_the_page_and_nothing_else(outputs: Path) -> None:
    made(outputs, "", 1.0)
    text = page(outputs)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy().split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "media-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert text.index("Content-Security-Policy") < text.index("<title>")
    assert not re.search(r"https?://(?!www\.w3\.org)", own(text))


def test_secrets_of_this_process_stay_out(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(
        outputs,
        "",
        manifest={"failure": "no access with tok-123456"},
        env={"id": "A-v0", "kwargs": {"x": "tok-123456"}},
    )
    stored = next(outputs.glob("*/*/config.yaml"))
    monkeypatch.setenv("SOME_TOKEN", "tok-123456")
    assert "tok-123456" in stored.read_text()
    text = page(outputs)
    assert "tok-123456" not in text and "no access with ***" in text


# --- the command -----------------------------------------------------------------------------------------------------


def test_goes_into_the_run_the_sweep_or_here(outputs: Path, rlrun: Command) -> None:
    single = made(outputs, "", 1.0, name="alone")
    grid(outputs)
    assert rlrun("report", "latest").code in (0,)
    answer = rlrun("report", str(single.directory), "--json")
    assert json.loads(answer.out) == {
        "path": str(single.directory / "report.html"),
        "bytes": (single.directory / "report.html").stat().st_size,
        "runs": 1,
    }
    assert rlrun("report", "2026-01-01_0_grid").out.startswith("outputs/sweeps/2026-01-01_0_grid/report.html: 8 runs, ")
    assert rlrun("report", "2026-01-01_0_grid", str(single.directory)).out.startswith("report.html: 9 runs, ")
    assert (
        rlrun("report", str(single.directory), "-o", "x.html").code == 0 and Path("x.html").stat().st_mode & 0o77 == 0
    )


def test_only_a_report_is_overwritten(outputs: Path, rlrun: Command) -> None:
    made(outputs, "", 1.0)
    Path("notes.html").write_text("mine")
    Path("link.html").symlink_to("notes.html")
    for name, reason in (("notes.html", "no report"), ("link.html", "symbolic link"), ("outputs", "a folder")):
        answer = rlrun("report", "latest", "-o", name)
        assert answer.code == 2 and reason in answer.errors[0], name
    assert Path("notes.html").read_text() == "mine"
    assert rlrun("report", "latest", "-o", "a.html").code == 0
    assert rlrun("report", "latest", "-o", "a.html").code == 0
    assert rlrun("report", "latest", "-o", "no/a.html").code == 5


def test_a_link_in_a_run_leads_nowhere(outputs: Path, rlrun: Command) -> None:
    run = made(outputs, "", 1.0)
    Path("victim").write_text("mine")
    (run.directory / "report.html").symlink_to(Path("victim").resolve())
    assert rlrun("report", str(run.directory)).code == 2 and Path("victim").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "the following arguments are required: RUN"),
        (["nothing"], 4, "no run at nothing"),
        (["*nothing*"], 4, "no run or sweep fits"),
        (["latest", "--outputs", "nowhere"], 4, "no run in nowhere yet"),
        (["latest", "--open"], 2, "unrecognized arguments: --open"),
        (["latest", "-o"], 2, "expected one argument"),
        (["latest", "-o", ""], 2, "a folder; name a file in it"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], code: int, words: str, outputs: Path, rlrun: Command) -> None:
    made(outputs, "", 1.0)
    answer = rlrun("report", *arguments)
    assert answer.code == code and len(answer.errors) == 1 and words in answer.errors[0]


def test_needs_no_torch(outputs: Path) -> None:
    made(outputs, "", 1.0, [(0, 1.0), (10, 2.0)])
    program = "import sys; from rlrun.cli import main; code = main(['report', 'latest']); sys.exit(code or 'torch' in sys.modules)"
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
