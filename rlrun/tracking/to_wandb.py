"""A run in Weights & Biases: online, or offline in ``<run>/wandb`` if ``WANDB_MODE`` says so or nobody is logged in.

W&B's settings are those of its variables and of ``~/.config/wandb``, never those of a folder.

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

from rlrun.provenance import clean
from rlrun.tracking.folders import own_folder
from rlrun.tracking.points import Point, Subject

PROJECT = "rlrun"
_EARLIER_HOST = "api.wandb.ai"  # W&B takes a key for it where it goes by another name now
_LONGEST_TAG = 64
_SECONDS_TO_REACH = 20.0
_EXIT_CODES = {"finished": 0, "failed": 1}
_KILLED = 255  # W&B's own, for what it shows as killed


def open_run(subject: Subject, say: Callable[[str], None]) -> WandB:
    """Offline if W&B can't be reached. Raises OSError, and what W&B raises."""
    _ignore_settings_of_folders()
    folder = own_folder(subject.directory / "wandb")
    if os.path.lexists(subject.directory / ".wandb"):
        raise OSError(
            f"{subject.directory / '.wandb'} would be written to, but {folder} is where W&B's files go; remove it"
        )
    if os.path.lexists(folder / "settings"):  # where the user stands in the run, ``wandb sync`` reads it
        raise OSError(f"{folder / 'settings'} would tell W&B where to send the run, and your key; remove it")
    mode, why = os.environ.get("WANDB_MODE"), ""
    if mode:
        run = _init(subject, mode, folder)
    else:
        run, mode, why = _init_where_possible(subject, folder)
        os.environ["WANDB_MODE"] = mode  # for the other runs of this process
    where = f"{why}offline; send it: wandb sync {shlex.quote(_short(folder))}/offline-run-*"
    say(f"wandb: {where if mode == 'offline' else run.url or mode}")
    return WandB(run, offline=mode == "offline")


def _ignore_settings_of_folders() -> None:
    """W&B would read files in the current folder, which may be anyone's: ``wandb/settings``, and send the key of the user where it
    says, and ``config-defaults.yaml``, of any size."""
    config: Any = getattr(wandb, "Config", None)
    if not (
        isinstance(getattr(wandb.Settings, "settings_workspace", None), property) and hasattr(config, "_load_defaults")
    ):
        raise OSError(f"where wandb {wandb.__version__} reads settings is not known; install another version")
    wandb.Settings.settings_workspace = property(lambda settings: os.devnull)  # type: ignore[assignment, method-assign]
    config._load_defaults = lambda config: None


def _init_where_possible(subject: Subject, folder: Path) -> tuple[Any, str, str]:
    """A run online, if somebody is logged in and W&B can be reached; else offline, and why."""
    if not _is_logged_in():
        return _init(subject, "offline", folder), "offline", "not logged in, so "
    try:
        return _init(subject, "online", folder), "online", ""
    except wandb.Error as error:
        wandb.teardown()  # what it began holds the run's id
        why = f"{' '.join(clean(str(error)).split()):.120}; so "
        return _init(subject, "offline", folder), "offline", why


def _init(subject: Subject, mode: str, folder: Path) -> Any:
    if mode == "offline":
        for old in folder.glob(f"offline-run-*-{subject.id}"):
            shutil.rmtree(old)
    return wandb.init(
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
        settings=wandb.Settings(
            silent=True,
            console="off",
            save_code=False,
            init_timeout=_SECONDS_TO_REACH,
            x_stats_pid=subject.trainer,
        ),
    )


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
    settings = wandb.setup().settings
    if settings.api_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    address = urlsplit(settings.base_url)
    hosts = {address.netloc, address.hostname or ""}
    if settings.base_url == wandb.Settings().base_url:
        hosts.add(_EARLIER_HOST)
    for file in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            known = netrc.netrc(str(Path(file).expanduser()))
            if any(known.authenticators(host) for host in hosts):
                return True
    return False
