"""A folder of configs for ``--config-dir`` that somebody else has made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

CALLBACK = "{evil: {_target_: os.mkdir, path: canary}}"
FILES = {  # what is refused, and the words
    "callbacks": (f"# @package _global_\nhydra:\n  callbacks: {CALLBACK}\n", "hydra sets Hydra itself"),
    "variables": ("# @package _global_\nhydra: {job: {env_set: {RLRUN_DEBUG: '1'}}}\n", "hydra sets Hydra itself"),
    "package": ("# @package hydra.callbacks\nevil: {x: 1}\n", "@package hydra.callbacks sets Hydra itself"),
    "package below": ("# @package _global_.hydra.job\nchdir: true\n", "@package _global_.hydra.job sets Hydra itself"),
    "default": (
        "defaults:\n  - override /hydra/job_logging: default\n",
        "override /hydra/job_logging: default sets Hydra",
    ),
    "package of a default": (
        "defaults:\n  - /env@hydra.callbacks: cartpole\n",
        "/env@hydra.callbacks: cartpole sets Hydra",
    ),
    "target": ("kwargs: [{x: {_target_: os.mkdir}}]\n", "_target_ names code to run"),
    "outside": ("defaults:\n  - ../../elsewhere\n", "defaults: ../../elsewhere leads out of the folder"),
    "outside by choice": ("defaults:\n  - override /env: ../x\n", "leads out of the folder"),
    "outside, absolute": ("defaults:\n  - //tmp/x\n", "leads out of the folder"),
    "hidden": ("defaults:\n  - /.venv/x\n", "defaults: /.venv/x leads out of the folder"),
    "outside by parts": ("defaults:\n  - ${a}./x\n", "leads out of the folder"),
}


@pytest.fixture
def experiments(workplace: Path) -> Path:
    folder = workplace / "mine" / "experiment"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_files_that_set_hydra(content: str, words: str, experiments: Path, rlrun: Any) -> None:
    (experiments / "x.yaml").write_text(content)
    answer = rlrun("--config-dir=mine", "experiment=x", "--cfg", "job")
    assert answer.code == 2 and len(answer.errors) == 1
    assert answer.errors[0].startswith("mine/experiment/x.yaml: ") and words in answer.errors[0]
    assert os.listdir() == ["mine"]


def test_folder_of_hydra(experiments: Path, rlrun: Any) -> None:
    (experiments.parent / "hydra" / "job_logging").mkdir(parents=True)
    answer = rlrun("--config-dir=mine", "--cfg", "job")
    assert answer.code == 2 and answer.errors[0].startswith("mine/hydra sets Hydra itself")


def test_folders_of_others_beside_the_groups(experiments: Path, rlrun: Any) -> None:
    (experiments / "x.yaml").write_text("# @package _global_\nseed: 7\n")
    (experiments.parent / ".venv" / "hydra").mkdir(parents=True)
    (experiments.parent / ".venv" / "lib64").symlink_to("hydra")
    (experiments.parent / "code" / "hydra").mkdir(parents=True)
    answer = rlrun("--config-dir=mine", "experiment=x", "--cfg", "job")
    assert answer.code == 0 and "seed: 7" in answer.out


@pytest.mark.parametrize("words", [[], ["-m", "seed=1,2"], ["--cfg", "job"]], ids=repr)
@pytest.mark.parametrize(
    "setting", [f"callbacks: {CALLBACK}", "job: {env_set: {X: '1'}}", "run: {dir: canary}", "output_subdir: canary"]
)
def test_what_gets_past_the_files_does_not_set_hydra(
    words: list[str], setting: str, experiments: Path, rlrun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlrun.cli.train.check_own_configs", lambda directory: None)
    (experiments / "x.yaml").write_text(f"# @package _global_\nhydra:\n  {setting}\n")
    answer = rlrun("--config-dir=mine", "experiment=x", *words)
    assert answer.code == 2 and len(answer.errors) == 1
    assert answer.errors[0].startswith("a file of --config-dir sets hydra.")
    assert os.listdir() == ["mine"]


def test_hydra_is_still_set_by_what_is_typed(experiments: Path, rlrun: Any) -> None:
    (experiments / "x.yaml").write_text("# @package _global_\nseed: 7\n")
    answer = rlrun("--config-dir=mine", "experiment=x", "+hydra.job.env_set.MINE=1", "--cfg", "hydra")
    assert answer.code == 0 and "MINE: '1'" in answer.out


def test_links_are_not_followed(experiments: Path, rlrun: Any, workplace: Path) -> None:
    (workplace / "mine" / "env").symlink_to("/dev")
    (workplace / "mine" / "experiment" / "x.yaml").symlink_to("/dev/zero")
    (workplace / "mine" / "experiment" / "z.yaml").symlink_to("z.yaml")
    answer = rlrun("--config-dir=mine", "--cfg", "job")
    assert answer.code == 2
    assert [line.split(":")[0] for line in answer.errors] == [
        "mine/env is a link to a folder; put a copy in its place",
        "mine/experiment/x.yaml",
        "mine/experiment/z.yaml",
    ]


def test_listing_reads_regular_files_only(experiments: Path, rlrun: Any, workplace: Path) -> None:
    os.mkfifo(experiments / "pipe.yaml")
    (experiments / "zero.yaml").symlink_to("/dev/zero")
    (experiments / "huge.yaml").write_text("# Huge.\n" + "#" * 1_000_000)
    (experiments / "mine.yaml").write_text("# \x1b[2JMine.\n")
    (workplace / "elsewhere").mkdir()
    (workplace / "elsewhere" / "x.yaml").touch()
    (workplace / "mine" / "linked").symlink_to(workplace / "elsewhere")
    answer = rlrun("configs", "-cd", "mine", "--json")
    groups = json.loads(answer.out)
    assert answer.code == 0 and "linked" not in groups and not {"pipe", "zero"} & {*groups["experiment"]}
    assert (groups["experiment"]["mine"], groups["experiment"]["huge"]) == ("[2JMine.", "")
