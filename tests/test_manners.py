"""What environments do badly without harm to what is trained: it is told, once, and work goes on."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from support import CARTPOLE, Folder, Silent

from rlrun import manners
from rlrun.manners import close, telling
from rlrun.run import Run
from rlrun.training import train
from rlrun.watchdog import _place


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manners, "_told", set())


@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
def test_one_that_raises_when_it_is_closed_is_told_once(
    kind: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    env = mock.Mock(close=mock.Mock(side_effect=kind("open")))
    notes: list[str] = []
    with telling(notes.append):
        close(env, "Odd-v0")
        close(env, "Odd-v0")
    line = f"raised {kind.__name__}: open when it was closed; nothing else depends on that"
    assert notes == [f"env Odd-v0 {line}"]
    close(env, "Other-v0")
    assert capsys.readouterr().err == f"rlrun: note: env Other-v0 {line}\n"


def test_a_signal_is_no_failure_to_close() -> None:
    with pytest.raises(KeyboardInterrupt):
        close(mock.Mock(close=mock.Mock(side_effect=KeyboardInterrupt)), "Odd-v0")


def test_a_run_does_not_depend_on_its_environments_being_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CartPoleEnv, "close", mock.Mock(side_effect=ConnectionError("gone")))
    run, view = Folder(tmp_path).run(CARTPOLE), Silent()
    assert [outcome.status for outcome in train([run], view)] == ["finished"]
    assert run.manifest["exact"] is True
    assert [line for line in view.notes if "ConnectionError: gone" in line] == view.notes and len(view.notes) == 1


@pytest.mark.parametrize("where", ["__init__", "reset", "step", "close"])
def test_one_that_changes_the_working_directory(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(CartPoleEnv, where)

    def leaving(*arguments: Any, **options: Any) -> Any:
        os.chdir("/")
        return original(*arguments, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CartPoleEnv, where, leaving)
    run, view = Folder(Path("outputs")).run(CARTPOLE), Silent()
    assert [outcome.status for outcome in train([run], view)] == ["finished"]
    assert view.notes == ["env CartPole-v1 changed the working directory to /; rlrun has gone back"]
    assert Path.cwd() == tmp_path and train([Run.open(run.directory)], view, resume=True)[0].status == "finished"


def test_the_watchdog_knows_where_an_environment_is_closed() -> None:
    places: list[Any] = []
    close(mock.Mock(close=lambda: places.append(_place(sys._getframe()))), "Odd-v0")
    assert places[0] is not None and places[0][1] == "when it was closed"
