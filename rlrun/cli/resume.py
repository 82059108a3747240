"""``rlrun resume RUN``: continue a run from its newest checkpoint, or extend it; ``resume_sweep`` does so for a sweep.

A run directory may come from anyone, so its config is data: it and the settings typed here never reach Hydra.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from rlrun import hardware, provenance
from rlrun.cli.arguments import Parser, add_outputs, take_imports
from rlrun.cli.loggers import loggers_to_use, names_loggers, send_finished
from rlrun.cli.output import say, shown_path
from rlrun.cli.secrets import changed_leaves, remember_typed, retyped, scalar
from rlrun.config import PPOConfig, RunConfig, from_mapping, to_mapping
from rlrun.config.resuming import forbidden_changes, has_effect, inexact_changes, leaves
from rlrun.config.settings import nearest, number
from rlrun.errors import LockedError, ResumeError, UsageError
from rlrun.finding import find, find_sweep, is_sweep
from rlrun.interrupts import Interrupts
from rlrun.locks import is_locked
from rlrun.manifest import dependence, other_population, texts
from rlrun.plain import printable, to_yaml, write_atomically
from rlrun.reports.typed import typed_settings
from rlrun.run import Run, require_own, why_not_own
from rlrun.watchdog import watching

_FIXED = ("name", "outputs")  # no matter to what is computed, but the run's directory is where and what it is

_EPILOG = """examples:
  rlrun resume latest
  rlrun resume 2026-11-24/0930 total_frames=200000    extend a finished run
  rlrun resume 2026-11-24_2158 sweep.workers=2        finish a sweep

total_frames may grow; stop.*, evaluation.*, checkpoint.*, logging.*, plot.* and logger may change;
device, hardware.device and hardware.threads too, but then the run is no longer exact; of a sweep, sweep.*."""


def main(arguments: list[str]) -> int:
    """Continue a run."""
    options = _parser().parse_intermixed_args(take_imports(arguments))
    remember_typed(options.overrides)
    for override in options.overrides:
        if "=" not in override:
            raise UsageError(f"'{override}' has no value; write {override.lstrip('~+')}=VALUE")
    sweep = find_sweep(options.run, options.outputs)
    if sweep is not None:
        from rlrun.cli.resume_sweep import resume_sweep

        config_of = functools.partial(changed, overrides=options.overrides)
        send = names_loggers(options.overrides)
        limited = not any(override.startswith("sweep.workers=") for override in options.overrides)
        return resume_sweep(sweep, config_of, options.require_exact, options.quiet, options.trust, send, limited)
    directory = find(options.run, options.outputs)
    run = Run.open(directory)
    if not options.trust:
        require_own(directory, "--trust")
    of_sweeps = [override for override in options.overrides if override.startswith("sweep.")]
    if of_sweeps:
        raise UsageError(f"{' '.join(of_sweeps)}: for sweeps only, and {shown_path(run.directory)} is one run")
    config = changed(run, options.overrides)
    typed, is_own = names_loggers(options.overrides), why_not_own(directory) is None
    choose = functools.partial(loggers_to_use, typed=typed, is_own=is_own)
    return resume_run(run, config, options.overrides, options.require_exact, options.quiet, choose)


def resume_run(
    run: Run,
    config: RunConfig,
    overrides: Sequence[str],
    exact: bool,
    quiet: bool,
    choose_loggers: Callable[[Sequence[str]], tuple[str, ...]],
) -> int:
    """Go on with a run by ``config``, which may differ from its own where it may. Returns the exit code.

    ``choose_loggers``: those of its loggers to use now; the run keeps them all.

    Raises:
        ResumeError: it can't go on, or, if ``exact``, not exactly; ``overrides`` are what to repeat in the advice.
    """
    if run.manifest["status"] == "finished":
        if not extends(run, config):
            if names_loggers(overrides) and config.logger:
                send_finished([dataclasses.replace(run, config=config)])
            say(_already_complete(run))
            return 0
        _refuse_reached(run, config, overrides)
    if exact:
        require_exact(run, config)
    return _go_on(run, config, quiet, choose_loggers)


def _go_on(run: Run, config: RunConfig, quiet: bool, choose_loggers: Callable[[Sequence[str]], tuple[str, ...]]) -> int:
    """Train the run by its new config. Returns the exit code."""
    from rlrun.cli.live import choose_view
    from rlrun.cli.results import finish_run
    from rlrun.sweeps.jobs import check_device
    from rlrun.sweeps.resources import check_memory, spaces_of
    from rlrun.sweeps.runner import train_runs

    check_device(config)
    loggers = choose_loggers(config.logger)
    _require_idle_sweep(run)
    view = choose_view(quiet)
    try:
        # Now: what can't be made, or does not fit into memory, is to change nothing on the disk.
        check_memory(config, spaces_of([config])[repr(config.env)])
        begun = _prepare(run, config, quiet)
        run.config = dataclasses.replace(config, logger=loggers)
        with Interrupts() as interrupts:
            (outcome,) = train_runs([run], view, interrupts, resume=begun)
    except UsageError as error:  # what was typed has been checked: it is what the run's config asks for
        raise ResumeError(f"{shown_path(run.directory / 'config.yaml')}: {error}") from error
    return finish_run(outcome.run, outcome.status, outcome.error, outcome.signal, quiet)


def _prepare(run: Run, config: RunConfig, quiet: bool) -> bool:
    """Give the run its config. Returns whether it has a checkpoint to go on from, or has not begun yet."""
    with run.lock():  # only for as long as we write; another process may be training this run
        begun = bool(run.manifest["status"] != "waiting")
        if begun:
            _require_checkpoint(run)
        if config != run.config:
            if not quiet:
                say_moving(run, config)
            extend(run, config)
    return begun


def _parser() -> Parser:
    parser = Parser(
        "resume",
        "Continue a run from its newest checkpoint, or finish a sweep: what is done is not done again.",
        _EPILOG,
    )
    parser.add_argument("run", metavar="RUN", help="directory of a run or sweep, how its name begins, or latest")
    settings = "total_frames=200000, stop.return=475, ..."
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=settings)
    parser.add_argument("--require-exact", action="store_true", help="refuse if the run can't continue bit for bit")
    trust = "go on in a directory that is another user's or that everybody can write to; all checks stay"
    parser.add_argument("--trust", action="store_true", help=trust)
    parser.add_argument("-q", "--quiet", action="store_true", help="print the run's directory and errors only")
    add_outputs(parser)
    return parser


def changed(run: Run, overrides: Sequence[str]) -> RunConfig:
    """The run's config with what was typed. Raises UsageError, or ResumeError for what may not change."""
    known = leaves(to_mapping(run.config))
    typed: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        if key not in known:
            raise UsageError(f"unknown key '{key}'{nearest(key, known)}")
        typed[key] = scalar(key, text)
    if "hardware.device" in typed:
        typed.setdefault("device", typed["hardware.device"])  # as for a new run
    before = retyped(run.config, typed, f"rlrun resume {shown_path(run.directory)}")
    frames = typed.get("total_frames")
    if (
        isinstance(frames, int | float) and 0 < frames < before.total_frames
    ):  # first: it may be too few for other settings
        raise ResumeError(f"total_frames: {before.total_frames} -> {number(frames)} is less; it can only grow")
    config = from_mapping(changed_leaves(to_mapping(before), typed))
    _refuse_changes(before, config)
    return config


def replaced(run: Run, config: RunConfig) -> RunConfig:
    """``config`` in place of the run's own, which may have been extended meanwhile. Raises ResumeError for what may not change."""
    config = dataclasses.replace(config, total_frames=max(config.total_frames, run.config.total_frames))
    _refuse_changes(run.config, from_mapping(provenance.clean(to_mapping(config))))  # secrets are not stored
    return config


def _refuse_changes(before: RunConfig, after: RunConfig) -> None:
    old, new = to_mapping(before), to_mapping(after)
    forbidden = forbidden_changes(old, new)
    forbidden += [printable(f"{key}: {old[key]} -> {new[key]}") for key in _FIXED if old[key] != new[key]]
    if forbidden:
        raise ResumeError("\n".join(f"{line} can't change on resume; start a new run for it" for line in forbidden))


def _already_complete(run: Run) -> str:
    frames, total = run.manifest["frames"], run.config.total_frames
    if frames < total:
        return f"already complete (its stop rule ended it at {frames}/{total} frames); change stop.* to go on"
    where, newest = shown_path(run.directory), run.newest_checkpoint()
    if newest is None:
        return f"already complete ({frames}/{total} frames), but none of its checkpoints is left to extend it from"
    lost = f", but its last checkpoint is of frame {newest:,}" if newest < frames else ""
    return (
        f"already complete ({frames}/{total} frames{lost}); extend with: rlrun resume {where} total_frames={2 * total}"
    )


def _require_idle_sweep(run: Run) -> None:
    """Raises LockedError for a member of a sweep that is being trained, which would train it again."""
    sweep = run.directory.resolve().parent
    if is_sweep(sweep) and is_locked(sweep):
        raise LockedError(
            f"{shown_path(run.directory)} belongs to sweep {shown_path(sweep)}, which is in use; wait for it"
        )


def _require_checkpoint(run: Run) -> None:
    """Raises ResumeError for a run that ended before its first checkpoint, with the command that starts it over."""
    if run.has_checkpoint():
        return
    typed, left_out = typed_settings(run.manifest)
    command = shlex.join(["rlrun", *typed]) + (f" ({left_out})" if left_out else "")
    raise ResumeError(f"{shown_path(run.directory)} has no checkpoint to continue from; start it over: {command}")


def _refuse_reached(run: Run, config: RunConfig, overrides: Sequence[str]) -> None:
    """Raises ResumeError if a stop rule that ended the finished run would end it again at once."""
    reached = reached_limits(run, config)
    if not reached:
        return
    shown = " and ".join(f"{key}={number(limit)}" for key, limit in reached.items())
    kept = [override for override in overrides if override.partition("=")[0] not in reached]
    command = shlex.join([*kept, *(f"{key}=null" for key in reached)])
    verb, them = ("was", "it") if len(reached) == 1 else ("were", "them")
    raise ResumeError(f"{shown} {verb} reached; change {them} too: rlrun resume {shown_path(run.directory)} {command}")


def reached_limits(run: Run, config: RunConfig) -> dict[str, float]:
    """The stop rules of ``config`` that the finished run has met already, and their limits."""
    values, stop = run.manifest, config.stop
    evaluation = values["evaluation"] or {}
    limits = {"stop.return": stop.return_, "stop.episodes": stop.episodes}
    measured = {"stop.return": evaluation.get("return_mean"), "stop.episodes": values.get("episodes")}
    reached = {key: limit for key, limit in limits.items() if limit is not None and _at_least(measured[key], limit)}
    was_cut = values["frames"] < run.config.total_frames
    if was_cut and not reached and stop.seconds is not None and _at_least(run.config.stop.seconds, stop.seconds):
        return {"stop.seconds": stop.seconds}
    return reached


def extends(run: Run, config: RunConfig) -> bool:
    """Whether ``config`` leaves the finished run something to do; how a sweep is run, or where metrics go, does not."""
    return has_effect(to_mapping(run.config), to_mapping(config)) and config.total_frames > run.manifest["frames"]


def _at_least(value: Any, limit: float) -> bool:
    return isinstance(value, int | float) and value >= limit


def require_exact(run: Run, config: RunConfig, size: int = 1) -> None:
    """Raises ResumeError with every reason why the run, in a population of ``size``, may differ from one never stopped."""
    from rlrun.trainers import inexactness

    reasons = provenance.differences(run.manifest, hardware.configure(config).numerics())
    note = dependence(run.manifest)
    reasons += other_population(run.manifest, size, note)
    reasons += inexact_changes(to_mapping(run.config), to_mapping(config))
    with watching(run.config.env.id, config.env.step_timeout):
        environment = inexactness(run.config)
    reasons += [environment] if environment else []
    if run.manifest.get("exact") is False and not environment:
        because = "; ".join(texts(run.manifest.get("inexact_because"))) or "no reason given"
        reasons.append(f"it was no longer exact before: {because}")
    if reasons:
        raise ResumeError(f"{shown_path(run.directory)} can't be resumed exactly: {'; '.join(reasons)}")


def say_moving(run: Run, config: RunConfig) -> None:
    """Say which schedules a new ``total_frames`` stretches."""
    algo = config.algo
    schedules = {"algo.learning_rate_schedule": algo.learning_rate_schedule}
    if isinstance(algo, PPOConfig):
        schedules["algo.clip_range_schedule"] = algo.clip_range_schedule
    moving = [f"{key}={value}" for key, value in schedules.items() if value != "constant"]
    if moving and config.total_frames != run.config.total_frames:
        say(f"note: {', '.join(moving)} now runs to the new end; a run planned to end there would differ")


def extend(run: Run, config: RunConfig) -> None:
    """Make ``config`` the run's, on disk as well. Raises StorageError."""
    status = "stopped" if run.manifest["status"] == "finished" else run.manifest["status"]
    run.update(total_frames=config.total_frames, status=status)  # first: a kill now leaves a run that can go on
    write_atomically(run.directory / "config.yaml", to_yaml(provenance.clean(to_mapping(config))))
    run.config = config
