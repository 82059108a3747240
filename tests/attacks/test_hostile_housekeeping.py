"""Every hostile run directory through the commands that show, compare, delete and reproduce."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from attacks.corpus import ATTACKS
from attacks.test_corpus import GROUPS, Guarded, check_words, guarded, state_of

__all__ = ["guarded"]  # a fixture

EXPECTED = "subprocess.Popen ('git', ['git', 'describe',"
"""What is noted of a good run: who made it."""


@pytest.mark.parametrize("group", GROUPS)
def test_reading_touches_nothing(group: str, guarded: Guarded) -> None:
    for name in [name for name in ATTACKS if name.partition(":")[0] == group][::3]:
        directory = guarded.directory()
        ATTACKS[name](directory, guarded.outside)
        before = state_of(guarded.place)
        answer = guarded.run(
            name,
            ["ls", "--filter", "algo.gamma>=0", "status=done", "--sort", "return"],
            ["show", str(directory)],
            ["show", str(directory), "--json"],
            ["diff", str(directory), str(directory), "--all"],
            ["gc", "--dry-run"],
            ["rm", "--dry-run", str(directory)],
        )
        assert answer["noted"] == [] and state_of(guarded.place) == before, name
        for got in answer["answers"]:
            check_words(name, got)
            may = {0, 4} if got["arguments"][0] in ("show", "diff", "rm") else {0}
            assert got["code"] in may, f"{name}: {got}"


@pytest.mark.parametrize("third", range(3))
def test_deleting_and_reproducing_leave_alone_what_is_outside(third: int, guarded: Guarded) -> None:
    for name in list(ATTACKS)[third::21]:
        directory = guarded.directory()
        ATTACKS[name](directory, guarded.outside)
        before = state_of(guarded.outside)
        again = ["--outputs", str(guarded.outputs / "again")]
        answer = guarded.run(
            name,
            ["reproduce", str(directory), "-q", *again],
            ["gc", "--yes", "--best", "--outputs", str(guarded.outputs)],
            ["rm", "--yes", "--best", str(directory)],
        )
        assert state_of(guarded.outside) == before, name
        assert sorted(path.name for path in guarded.place.iterdir()) == ["outputs", "outside"], name
        noted = [line for line in answer["noted"] if not line.startswith(EXPECTED)]
        assert noted == [], name
        for got in answer["answers"]:
            check_words(name, got) if got["code"] != 10 else None
        codes = [got["code"] for got in answer["answers"]]
        assert codes[0] in (0, 2, 3, 4, 5, 10) and codes[1] in (0, 5) and codes[2] in (0, 4, 5), (name, answer)
        if codes[2] == 0:
            assert not os.path.lexists(directory), name


def test_a_run_that_is_a_link_out_of_the_folder(guarded: Guarded) -> None:
    directory = guarded.directory()
    shutil.move(directory, guarded.outside / "run")
    directory.symlink_to(guarded.outside / "run")
    before = state_of(guarded.outside)
    answer = guarded.run("link", ["rm", "--yes", "--best", str(directory)], ["gc", "--yes"], ["ls"])
    assert [got["code"] for got in answer["answers"]] == [4, 0, 0] and state_of(guarded.outside) == before
    assert Path(directory).is_symlink()
