"""The tutorials' figures: drawn from a run's files, into the run and nowhere else."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from support import CARTPOLE, PPO, Folder, Silent

from rlrun.errors import StorageError
from rlrun.reports import figures
from rlrun.reports.figures import draw, running_mean
from rlrun.training import train

PNG = b"\x89PNG\r\n"


def test_running_mean_by_hand() -> None:
    assert running_mean(np.array([1.0, 2.0, 6.0, 10.0]), 2).tolist() == [1.5, 4.0, 8.0]
    assert running_mean(np.array([1.0]), 2).tolist() == []


@pytest.mark.parametrize(("kind", "settings"), [("dqn", CARTPOLE), ("ppo", PPO)])
def test_a_run_draws_its_figure_when_it_ends(kind: str, settings: dict[str, object], tmp_path: Path) -> None:
    run = Folder(tmp_path).trained(settings, {"plot": {"figures": kind}, "total_frames": 300})
    assert (run.directory / "plots" / f"tutorial_{kind}.png").read_bytes().startswith(PNG)


def test_a_figure_is_never_worth_a_run(tmp_path: Path) -> None:
    run, view = Folder(tmp_path).run(CARTPOLE, {"plot": {"figures": "dqn"}, "total_frames": 300}), Silent()
    with mock.patch.object(figures, "draw", side_effect=ValueError("no ink")):
        (outcome,) = train([run], view)
    assert outcome.status == "finished" and run.manifest["status"] == "finished"
    assert view.notes == ["no figure: ValueError: no ink"]


def test_links_planted_in_a_run_lead_nowhere(tmp_path: Path) -> None:
    run = Folder(tmp_path / "runs").trained(CARTPOLE, {"total_frames": 300})
    victim = tmp_path / "victim"
    victim.write_text("precious")
    plots = run.directory / "plots"
    plots.mkdir()
    (plots / "tutorial_dqn.png").symlink_to(victim)
    draw("dqn", run.directory)  # replaces the link
    (plots / "tutorial_dqn.png").unlink()
    plots.rmdir()
    plots.symlink_to(tmp_path)
    with pytest.raises(StorageError, match="symbolic link"):
        draw("dqn", run.directory)
    assert victim.read_text() == "precious" and not (tmp_path / "tutorial_dqn.png").exists()
