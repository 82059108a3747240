"""A run whose agent is to play: the one that was typed, with its secrets typed again, on a device of this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from rlrun.checkpoint import find_damage
from rlrun.checkpoint_names import BEST_FILE
from rlrun.cli.arguments import Parser, integer
from rlrun.cli.output import shown_path
from rlrun.cli.secrets import typed_again
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.errors import ResumeError, UnavailableError, UsageError
from rlrun.finding import find_one, listed
from rlrun.plain import printable
from rlrun.run import Run
from rlrun.sweeps.jobs import check_device


def add_run(parser: Parser) -> None:
    """``RUN KEY=VALUE ... --checkpoint C``."""
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's directory, the beginning of its name, or latest")
    add("secrets", nargs="*", metavar="KEY=VALUE", help="a setting not stored as it is secret; env.step_timeout=N")
    add("--checkpoint", metavar="C", help="best, last or a number of frames; default best, if there is one")


def add_player(parser: Parser, episodes: int) -> None:
    """What ``add_run`` adds, and which episodes are played where; ``episodes`` is the default of ``--episodes``."""
    add = parser.add_argument
    add_run(parser)
    add("--episodes", type=integer(1, 100_000), default=episodes, metavar="N", help=f"default {episodes}")
    add("--seed", type=integer(0, 2**32 - 1), default=0, metavar="S", help="default 0")
    add("--device", metavar="D", help="cpu, cuda, cuda:N or auto; default: the run's, if it exists here, else cpu")


def open_to_play(
    selector: str, outputs: Path, checkpoint: str | None, device: str | None, secrets: Sequence[str], command: str
) -> tuple[Run, str]:
    """The run meant by ``selector``, fit to play here, and the checkpoint to play with: the best, if none is named.

    ``device``: None is the run's own, or the CPU where that is not here. ``command`` is what to type with the ``secrets``.

    Raises:
        UsageError, ResumeError, UnavailableError: there is no such run, checkpoint or device; a secret is missing.
    """
    run = _with_secrets(Run.open(find_one(selector, outputs)), secrets, command)
    checkpoint = checkpoint_of(run, checkpoint)
    config = dataclasses.replace(run.config, device=_device(run.config, device))
    return dataclasses.replace(run, config=config), checkpoint


def checkpoint_of(run: Run, wanted: str | None) -> str:
    """``wanted``, else ``best`` where there is one, else ``last``. Raises ResumeError for a damaged best one, or if there is none."""
    best = run.checkpoints / BEST_FILE
    has_best = os.path.isfile(best)
    if wanted is None and not has_best and not run.has_checkpoint():
        raise ResumeError(f"{shown_path(run.directory)} has no checkpoint{_why_none(run)}")
    checkpoint = wanted or ("best" if has_best else "last")
    damage = find_damage(best) if checkpoint == "best" and has_best else None
    if damage is not None:
        raise ResumeError(f"{printable(best)} is {damage}; try --checkpoint last")
    return checkpoint


def _why_none(run: Run) -> str:
    status = listed(run.directory)["status"]
    if status == "unreadable":
        return " any more: it was moved, deleted or damaged meanwhile"
    if status in ("running", "waiting"):
        return " yet: it is still to come to its first one"
    if status == "failed":
        return f": it failed at frame {run.manifest['frames']:,}: {printable(run.manifest.get('failure') or 'no reason given')}"
    return f" any more, though it has {status}" if status == "finished" else f": it was {status} before the first one"


def blamed_on_config(run: Run, error: UsageError) -> ResumeError:
    """What was typed has been checked: the error is of what the run's config asks for."""
    return ResumeError(f"{shown_path(run.directory / 'config.yaml')}: {error}")


def _with_secrets(run: Run, overrides: Sequence[str], command: str) -> Run:
    """The run with its hidden settings as they were typed. Raises ResumeError, or UsageError for any other setting."""
    refusal = f"{command.rpartition(' ')[2]} plays with the run's own settings"
    config = typed_again(run.config, overrides, f"{command} {shown_path(run.directory)}", refusal)
    return dataclasses.replace(run, config=config)


def _device(config: RunConfig, wanted: str | None) -> str:
    """The device to play on. Raises UsageError for no device, UnavailableError for a ``wanted`` one not here."""
    if wanted is not None:
        config = from_mapping(to_mapping(config) | {"device": wanted})
    try:
        check_device(config)
    except UnavailableError:
        if wanted is not None:
            raise
        return "cpu"
    return config.device
