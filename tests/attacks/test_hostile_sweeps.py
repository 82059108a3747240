"""Sweeps with a hostile member or hostile lists, and directories that others can write to."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attacks.corpus import ATTACKS, STEP, TEXTS, TRAVERSALS, edit_json, signed
from attacks.test_corpus import GOLDEN, Guarded, check_words, guarded, state_of

from rlrun.run import Run

__all__ = ["guarded"]  # a fixture

NAMES = ("000001_a_s0", "000002_b_s1", "000003_c_s2")
EXTENDED = ("total_frames=410", "evaluation.episodes=1")


def make_sweep(outputs: Path) -> Path:
    """A finished sweep of three runs."""
    sweep = outputs / "sweeps" / "2026-01-01_000000_swept"
    for number, name in enumerate(NAMES):
        shutil.copytree(GOLDEN, sweep / name, copy_function=shutil.copyfile)
        edit_json(sweep / name / "run.json", lambda v, n=number: v.update(job=n + 1, jobs=3, sweep=sweep.name, seed=n))
    (sweep / "sweep.json").write_text("{}")
    return sweep


@pytest.fixture
def sweep(workplace: Path) -> Path:
    return make_sweep(workplace / "outputs").relative_to(workplace)


def test_a_hostile_member_of_a_finished_sweep(guarded: Guarded) -> None:
    """An even choice of all attacks; nothing is left to train, so that no worker is started."""
    for name in list(ATTACKS)[::6]:
        guarded.directory()
        sweep = make_sweep(guarded.outputs)
        ATTACKS[name](sweep / NAMES[1], guarded.outside)
        before = state_of(guarded.outside)
        answer = guarded.run(name, ["ls"], ["resume", str(sweep)])
        assert answer["noted"] == [] and state_of(guarded.outside) == before, name
        assert answer["answers"][0]["code"] == 0 and answer["answers"][1]["code"] in (0, 4, 9), name
        for got in answer["answers"]:
            check_words(name, got)


@pytest.mark.parametrize(
    "attack",
    [
        lambda member: (member / STEP).write_bytes(signed(b'{"training":{"steps":400},"loop":{},"offsets":{}}')),
        lambda member: (member / "config.yaml").write_text("!!python/name:os.system"),
        lambda member: (member / "config.yaml").write_text(
            (member / "config.yaml").read_text().replace("CartPole-v1", "evilmod:Foo-v0")
        ),
        lambda member: (shutil.move(member / "checkpoints", member / "c"), (member / "checkpoints").symlink_to("c")),
        lambda member: edit_json(
            member / "run.json", lambda values: values.update(population={"first": [], "size": {}})
        ),
    ],
    ids=["checkpoint", "config", "environment", "link", "population"],
)
def test_a_hostile_member_stops_no_other(sweep: Path, attack: Callable[[Path], Any], rlrun: Any) -> None:
    attack(sweep / NAMES[0])
    answer = rlrun("resume", "-q", str(sweep), *EXTENDED)
    assert answer.code in (0, 9) and len(answer.errors) <= 2
    for name in NAMES[1:]:
        manifest = Run.open(sweep / name).manifest
        assert (manifest["status"], manifest["frames"]) == ("finished", 410), answer.err
    recorded = [(sweep / name / "metrics.jsonl").read_bytes() for name in NAMES[1:]]
    assert recorded[0] == recorded[1]  # both are copies of one run


LISTS = {
    "deep": "[" * 50_000,
    "members that climb": json.dumps({"jobs": [{"job": n, "directory": name} for n, name in enumerate(TRAVERSALS)]}),
    "targets": json.dumps({"_target_": "os.system", "settings": [{"_target_": "evilmod.Evil"}]}),
    "nothing": "",
}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
def test_the_lists_of_a_sweep_lead_nowhere(sweep: Path, content: str, rlrun: Any) -> None:
    (sweep / "sweep.json").write_text(content)
    answer = rlrun("resume", str(sweep))
    assert answer.code == 0 and "already complete (3 runs)" in answer.out
    assert len(json.loads((sweep / "sweep.json").read_text())["jobs"]) == 3


@pytest.mark.parametrize("link", ["sweep.json", "sweep.csv", "worker-1.log", "run.lock"])
def test_links_in_a_sweep_are_not_written_through(sweep: Path, link: str, workplace: Path, rlrun: Any) -> None:
    victim = workplace / "victim"
    victim.write_text("precious")
    (sweep / link).unlink(missing_ok=True)
    (sweep / link).symlink_to(victim)
    answer = rlrun("resume", "-q", str(sweep), *EXTENDED)
    assert answer.code == (5 if link == "run.lock" else 0), answer.err
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("text", [*TEXTS.values(), "+1+1", "-2+3", "@x", "\t=1", " =1"])
def test_no_text_of_a_member_is_a_formula_or_steers_a_terminal(sweep: Path, text: str, rlrun: Any) -> None:
    for number, name in enumerate(NAMES):
        overrides = [f"algo.gamma={text}{number}", f"{text}={number}", f"seed={text}"]
        change = {"overrides": overrides, "failure": f"{text}{number}", "status": "failed" if number else "finished"}
        edit_json(sweep / name / "run.json", lambda values, change=change: values.update(change))
    answer = rlrun("resume", str(sweep), *EXTENDED)
    assert answer.code == 0, answer.err
    for line in (answer.out + answer.err).split("\n"):
        assert all(letter.isprintable() for letter in line), line
    rows = list(csv.reader(io.StringIO((sweep / "sweep.csv").read_text())))
    assert len(rows) == 4
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip().startswith(("=", "+", "-", "@")), cell
        assert cell.isprintable()


# --- directories of others -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "sweep", "member"])
def test_a_directory_that_everybody_can_write_to_needs_trust(sweep: Path, what: str, rlrun: Any) -> None:
    directory = sweep if what == "sweep" else sweep / NAMES[0]
    directory.chmod(0o777)
    target = sweep if what != "run" else directory
    answer = rlrun("resume", "-q", str(target), *EXTENDED)
    assert answer.code == 4
    assert answer.errors == [f"everybody can write to {directory}; type chmod -R o-w {directory}, or type --trust"]
    assert Run.open(sweep / NAMES[0]).manifest["frames"] == 400
    assert rlrun("resume", "-q", str(target), *EXTENDED, "--trust").code == 0
    directory.chmod(0o775)
    assert rlrun("resume", "-q", str(target), "total_frames=420", "evaluation.episodes=1").code == 0


def test_a_directory_of_another_user_needs_trust(sweep: Path, rlrun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: me + 1)
    for target in (sweep, sweep / NAMES[0]):
        answer = rlrun("resume", "-q", str(target), *EXTENDED)
        assert answer.code == 4
        assert answer.errors == [
            f"{target} belongs to another user; copy it (cp -r) and resume the copy, or type --trust"
        ]
    assert rlrun("ls").code == 0 and rlrun("eval", str(sweep / NAMES[0]), "--episodes", "1").code == 0
    assert rlrun("resume", "-q", str(sweep / NAMES[0]), *EXTENDED, "--trust").code == 0


def test_trust_relaxes_nothing_else(sweep: Path, rlrun: Any) -> None:
    run = sweep / NAMES[0]
    run.chmod(0o777)
    (run / STEP).write_bytes(signed())
    answer = rlrun("resume", str(run), *EXTENDED, "--trust")
    assert answer.code == 4 and len(answer.errors) == 1
