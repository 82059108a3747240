"""What of a foreign run.json may be advised to type again."""

from __future__ import annotations

from typing import Any

import pytest

from rlrun.cli.groups import configs_directory, find_groups
from rlrun.reports.typed import GROUPS, typed_settings

EVIL = [
    "--config-dir=/tmp/evil",
    "env.allow_import=evil",
    "hydra.searchpath=[pkg://evil]",
    "+hydra.job_logging=x",
    "hydra/launcher=evil",
    "run.dir=/tmp/x",
    "algo@evil=dqn",
    "evil=1",
    "-m",
    "",
    "~algo",
    "algo.gamma=0.9\nrm",
    "name=\x1b[2J",
    "env.kwargs.x=${oc.env:DATABASE_URL}",
    "name='${oc.env:DATABASE_URL}'",
    "outputs=/tmp/elsewhere",
    "++logger=[wandb]",
    "logging.project=theirs",
    "name=\u202eevil",
    3,
    None,
]


@pytest.mark.parametrize("evil", EVIL, ids=repr)
def test_what_is_no_setting_is_left_out(evil: Any) -> None:
    kept = ["algo=dqn", "algo.clip_range=0.1", "+env.kwargs.x=$(touch y)", "++seed=3", "name='a b'"]
    assert typed_settings({"overrides": kept}) == (kept, "")
    left_out = "left out: 1 word of run.json: no plain settings, or yours to choose (outputs, logger)"
    assert typed_settings({"overrides": [*kept, evil]}) == (kept, left_out)


@pytest.mark.parametrize("stored", [None, 5, "algo=dqn", {"algo": "dqn"}])
def test_overrides_that_are_no_list_say_nothing(stored: Any) -> None:
    assert typed_settings({"overrides": stored}) == ([], "")


def test_groups_are_those_there_are() -> None:
    assert set(GROUPS) == set(find_groups([configs_directory()]))
