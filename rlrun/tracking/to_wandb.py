"""A run in Weights & Biases: online, or offline in ``<run>/wandb`` if W&B's own settings say so or nobody is logged in.

Online, W&B knows the last step that it has of a resumed run, and the points after it follow. Offline, the run is written anew
from its first row, so that ``wandb sync`` sends one whole run.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from rlrun.tracking.folders import own_folder
from rlrun.tracking.points import Point, Subject

PROJECT = "rlrun"
_LONGEST_TAG = 64
_EXIT_CODES = {"finished": 0, "failed": 1}
_KILLED = 255  # W&B's own, for what it shows as killed


def open_run(subject: Subject, say: Callable[[str], None]) -> WandB:
    """Raises OSError, and what W&B raises."""
    mode = os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")
    folder = own_folder(subject.directory / "wandb")
    if mode == "offline":
        for old in folder.glob(f"offline-run-*-{subject.id}"):
            shutil.rmtree(old)
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        dir=str(subject.directory),
        id=subject.id,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        project=subject.project or os.environ.get("WANDB_PROJECT") or PROJECT,
        name=subject.title,
        group=subject.sweep,
        job_type="train",
        tags=[text[:_LONGEST_TAG] for text in dict.fromkeys((subject.algo, subject.env, subject.name)) if text],
        config=subject.config | {"rlrun": subject.facts},
        settings=wandb.Settings(silent=True, console="off", save_code=False, x_stats_pid=subject.trainer),
    )
    why = "" if os.environ.get("WANDB_MODE") else "not logged in, so "
    where = f"{why}offline; send it: wandb sync {shlex.quote(_short(folder))}/offline-run-*"
    where = where if mode == "offline" else run.url or mode
    say(f"wandb: {where}")
    return WandB(run, offline=mode == "offline")


class WandB:
    """One run."""

    def __init__(self, run: Any, offline: bool) -> None:
        self._run = run
        self._first = 0 if offline else run.starting_step  # points before it are there

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            if point.frames >= self._first:
                values = {**point.values, "global_step": point.frames, "_timestamp": point.moment}
                self._run.log(values, step=point.frames)

    def close(self, status: str) -> None:
        self._run.finish(exit_code=_EXIT_CODES.get(status, _KILLED))


def _short(folder: Path) -> str:
    """From the current folder, if it is in there."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _is_logged_in() -> bool:
    """Whether W&B would find a key. It looks at its settings, its variables and .netrc, and else asks on the terminal."""
    settings = wandb.Settings()
    if settings.api_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(settings.base_url).hostname or ""
    for file in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(str(Path(file).expanduser())).authenticators(host):
                return True
    return False
