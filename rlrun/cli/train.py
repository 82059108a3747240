"""``rlrun [train]``: what can be typed, before ``application.py`` composes and trains."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from rlrun.cli.arguments import Parser, take_imports, take_place
from rlrun.cli.groups import check_is_folder
from rlrun.cli.output import muted
from rlrun.cli.own_configs import check_own_configs
from rlrun.cli.secrets import remember_typed
from rlrun.errors import UsageError
from rlrun.run import Run

_EXAMPLES = """examples:
  rlrun algo=ppo env=pendulum seed=3 algo.learning_rate=1e-3
  rlrun experiment=tutorial_dqn
  rlrun run.dir=runs/a resume=auto       start in runs/a, or go on there: for schedulers that queue a job again
  rlrun env.id=CartPole-v1               any installed Gymnasium environment
  rlrun -m seed=1,2,3 network=small,large
  rlrun algo=ppo --cfg job               print the settings and stop

rlrun configs lists what can be composed; rlrun configs algo explains each setting."""


_FROM_PYTHON = ("-m", "--multirun", "--config-dir", "-cd")
_INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def main(arguments: list[str]) -> int:
    """Train, sweep, or show the config. Returns the exit code."""
    arguments, directory, resume = take_place(take_imports(arguments))
    options = _parser().parse_intermixed_args(arguments)
    _check_options(options)
    secret = remember_typed(options.overrides)
    if secret and options.cfg in ("hydra", "all"):
        raise UsageError(f"--cfg {options.cfg} shows what was typed as it is, also {secret}; use --cfg job")

    from rlrun.cli.application import Application  # imports Hydra, which help and completion do without

    application = Application(options.quiet, options.cfg == "job", options.package, directory, resume)
    application.compose(options.overrides, options.multirun, options.config_dir, _hydra_flags(options))
    return application.exit_code


def train_from_python(arguments: list[str], quiet: bool) -> tuple[list[Run], bool, int]:
    """Train as ``main`` does. Returns the runs in the order of the jobs, whether they are a sweep, and the exit code.

    Raises:
        UsageError: an argument is of the command line only; and what ``main`` raises.
    """
    arguments, directory, resume = take_place(take_imports(arguments))
    foreign = [text for text in arguments if text.startswith("-") and not text.startswith(_FROM_PYTHON)]
    if foreign:
        raise UsageError(f"{foreign[0]} is for the command line; rlrun.train takes KEY=VALUE, -m and --config-dir=DIR")
    options = _parser().parse_intermixed_args(arguments)
    _check_options(options)
    remember_typed(options.overrides)

    from rlrun.cli.application import Application, apart_from_other_hydra

    application = Application(quiet, False, None, directory, resume)
    with muted() if quiet else nullcontext(), apart_from_other_hydra():
        application.compose(options.overrides, options.multirun, options.config_dir, _hydra_flags(options))
    return application.runs, application.is_sweep, application.exit_code


def _parser() -> Parser:
    parser = Parser("train", "Train an agent on what the config groups and KEY=VALUE settings say.", _EXAMPLES)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="choose of a group (algo=ppo), or set (seed=3)")
    add("-q", "--quiet", action="store_true", help="print the run's directory and errors only")
    add("-m", "--multirun", action="store_true", help="sweep: one run for each combination of values")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="check and print the config instead of training")
    add("-p", "--package", metavar="KEY", help="with --cfg job: the part to print, as in --package algo")
    add("--resolve", action="store_true", help="with --cfg hydra or all: resolve interpolations")
    add("-cd", "--config-dir", type=Path, metavar="DIR", help="a folder of your own configs, laid out like rlrun's")
    add("-cn", "--config-name", metavar="NAME", help="refused: an experiment in your own --config-dir does that")
    add("-i", "--info", nargs="?", const="all", choices=_INFORMATION, help="Hydra's information on the composition")
    add("-sc", "--shell-completion", action="store_true", help="refused: rlrun completion does that")
    add("--experimental-rerun", metavar="FILE", help="refused: it would execute a pickle")
    return parser


def _check_options(options: Namespace) -> None:
    if options.experimental_rerun is not None:
        raise UsageError("--experimental-rerun loads a pickle, which can run any code; use rlrun resume RUN")
    if options.shell_completion:
        raise UsageError("--shell-completion: type rlrun completion bash, zsh or fish")
    if options.multirun and (options.cfg or options.info):
        raise UsageError("-m runs a sweep; leave it out to show a config")
    if options.config_name is not None:
        raise UsageError("--config-name: every run starts from rlrun's config; use --config-dir DIR experiment=NAME")
    if options.package is not None and options.cfg != "job":
        raise UsageError("--package names what --cfg job is to print; type --cfg job as well")
    check_is_folder("--config-dir", options.config_dir)
    if options.config_dir is not None:
        check_own_configs(options.config_dir)


def _hydra_flags(options: Namespace) -> list[str]:
    """The options that Hydra is to see. It trains nothing for ``--cfg job``: we print what we would train."""
    flags = ["--multirun"] if options.multirun else []
    if options.cfg and options.cfg != "job":
        flags += ["--cfg", options.cfg, *(["--resolve"] if options.resolve else [])]
    flags += [f"--info={options.info}"] if options.info is not None else []
    return flags + ([] if options.config_dir is None else [f"--config-dir={options.config_dir}"])
