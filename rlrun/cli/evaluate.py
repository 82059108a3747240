"""``rlrun eval RUN``: play greedy episodes with a trained agent."""

from __future__ import annotations

import dataclasses
from argparse import Namespace

from rlrun.checkpoint import find_damage
from rlrun.cli.arguments import Parser, add_outputs, integer, take_imports
from rlrun.cli.output import counted, deliver_json, deliver_line, shown_number, shown_path
from rlrun.cli.secrets import hidden_keys, remember_typed, retyped, scalar
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.errors import ResumeError, UnavailableError, UsageError
from rlrun.finding import find
from rlrun.plain import printable
from rlrun.run import Run
from rlrun.sweeps.jobs import check_device

_KEYS = ("return_mean", "return_std", "return_iqm", "return_min", "return_max")


def main(arguments: list[str]) -> int:
    """Evaluate a run."""
    parser = Parser("eval", "Play greedy episodes with a trained agent and print what they returned.")
    add_player(parser, episodes=100)
    parser.add_argument("--returns", action="store_true", help="print the return of every episode, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_outputs(parser)
    options = parser.parse_intermixed_args(take_imports(arguments))
    run, checkpoint = player(options, "eval")

    from rlrun.evaluation import evaluate_run  # imports torch

    try:
        result = evaluate_run(run, options.episodes, options.seed, checkpoint)
    except UsageError as error:  # what was typed has been checked: it is what the run's config asks for
        raise ResumeError(f"{shown_path(run.directory / 'config.yaml')}: {error}") from error
    keys = [*_KEYS, "episodes", "checkpoint", *(["returns"] if options.returns else [])]
    if options.json:
        deliver_json({key: result[key] for key in keys}, indent=None)
        return 0
    deliver_line(
        f"{shown_path(run.directory)}: checkpoint {result['checkpoint']}, {counted(result['episodes'], 'episode')}"
    )
    for key in _KEYS:
        deliver_line(f"  {key.removeprefix('return_'):<5} {shown_number(result[key], 2):>12}")
    if options.returns:
        deliver_line("  " + " ".join(f"{value:g}" for value in result["returns"]))
    return 0


def add_player(parser: Parser, episodes: int) -> None:
    """Which agent is to play what; ``episodes`` is the default of ``--episodes``."""
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's directory, the beginning of its name, or latest")
    add("secrets", nargs="*", metavar="KEY=VALUE", help="a setting that was not stored because it is a secret")
    add("--episodes", type=integer(1, 100_000), default=episodes, metavar="N", help=f"default {episodes}")
    add("--seed", type=integer(0, 2**32 - 1), default=0, metavar="S", help="default 0")
    add("--checkpoint", metavar="C", help="best, last or a number of frames; default best, if there is one")
    add("--device", metavar="D", help="cpu, cuda, cuda:N or auto; default: the run's, if it exists here, else cpu")


def player(options: Namespace, command: str) -> tuple[Run, str]:
    """The run that was chosen, as it can play here, and the checkpoint to play with.

    Raises:
        UsageError, UnavailableError: what was typed does not fit it, or this machine.
        ResumeError: there is no such run, or it can't be used.
    """
    run = _with_secrets(Run.open(find(options.run, options.outputs)), options.secrets, command)
    best = run.checkpoints / "best.ckpt"
    checkpoint = options.checkpoint or ("best" if best.is_file() else "last")
    damage = find_damage(best) if checkpoint == "best" and best.is_file() else None
    if damage is not None:
        raise ResumeError(f"{printable(best)} is {damage}; try --checkpoint last")
    config = dataclasses.replace(run.config, device=_device(run.config, options.device))
    return dataclasses.replace(run, config=config), checkpoint


def _with_secrets(run: Run, overrides: list[str], command: str) -> Run:
    """The run with its hidden settings as they were typed. Raises ResumeError, or UsageError for any other setting."""
    remember_typed(overrides)
    typed = {key: scalar(key, text) for key, _, text in (override.partition("=") for override in overrides)}
    others = typed.keys() - hidden_keys(run.config)
    if others:
        raise UsageError(f"{', '.join(sorted(others))}: {command} plays with the run's own settings; leave it out")
    return dataclasses.replace(run, config=retyped(run.config, typed, f"rlrun {command} {shown_path(run.directory)}"))


def _device(config: RunConfig, wanted: str | None) -> str:
    """The device to evaluate on. Raises UsageError for no device, UnavailableError for a ``wanted`` one not here."""
    if wanted is not None:
        config = from_mapping(to_mapping(config) | {"device": wanted})
    try:
        check_device(config)
    except UnavailableError:
        if wanted is not None:
            raise
        return "cpu"
    return config.device
