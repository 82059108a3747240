"""``rlrun resume SWEEP``: finish what is not finished. Nothing is trained twice, and all that is read is plain data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rlrun.cli.loggers import loggers_to_use, send_finished
from rlrun.cli.output import counted, say, shown_path
from rlrun.cli.results import finish_sweep
from rlrun.cli.resume import extend, extends, reached_limits, require_exact, say_moving
from rlrun.cli.sweep_view import choose_sweep_view
from rlrun.config import RunConfig
from rlrun.errors import RlrunError
from rlrun.interrupts import Interrupts
from rlrun.run import Run, require_own, why_not_own
from rlrun.sweeps.jobs import check_device
from rlrun.sweeps.launcher import SweepView
from rlrun.sweeps.resources import check_batches, most_workers, spaces_of
from rlrun.sweeps.summary import save_summary
from rlrun.sweeps.sweep import Sweep, opened_sweep, places_of, plan_sweep, train_sweep, without_checkpoint


def resume_sweep(
    directory: Path,
    config_of: Callable[[Run], RunConfig],
    exact: bool,
    quiet: bool,
    trust: bool = False,
    send: bool = False,
    limited: bool = False,
) -> int:
    """Train the unfinished runs of a sweep, and finished ones that their new config extends. Returns the exit code.

    ``send``: the loggers were typed; give them the other finished ones, too. ``limited``: start no more workers than this
    machine has room for, as their number is only what the sweep has stored.

    Raises:
        LockedError: the sweep, or one of its runs, is being trained.
        ResumeError, UsageError: the runs can't be changed so, or, if ``exact``, not be continued exactly.
    """
    with opened_sweep(directory) as (sweep, held):
        places = [directory, *(run.directory for run in sweep.runs)]
        for place in [] if trust else places:
            require_own(place, "--trust")
        configs = [config_of(run) for run in sweep.runs]
        pairs = [(run, config) for run, config in zip(sweep.runs, configs, strict=True) if _is_left(run, config)]
        if send:
            _send_finished(zip(sweep.runs, configs, strict=True))
        view = choose_sweep_view(quiet)
        left = [run for run, _ in pairs]
        sweep.errors = _without_environment(left) | without_checkpoint(left, view.note)
        pairs = [(run, config) for run, config in pairs if run.directory not in sweep.errors]
        if not pairs:
            save_summary(directory, sweep.runs, sweep.errors, None)  # a run may have been extended alone
            if not sweep.unreadable and not sweep.errors:
                runs = counted(len(sweep.runs), "run")
                say(f"already complete ({runs}); extend with: rlrun resume {shown_path(directory)} total_frames=N")
                return 0
        is_own = all(why_not_own(place) is None for place in places)
        choose_loggers = functools.partial(loggers_to_use, typed=send, is_own=is_own)
        most = most_workers() if limited else None
        signal = _go_on(sweep, held, pairs, most, exact, choose_loggers, view, quiet) if pairs else None
    return finish_sweep(sweep, signal, quiet)


def _go_on(
    sweep: Sweep,
    held: tuple[int, ...],
    pairs: Sequence[tuple[Run, RunConfig]],
    most: int | None,
    exact: bool,
    choose_loggers: Callable[[Sequence[str]], tuple[str, ...]],
    view: SweepView,
    quiet: bool,
) -> int | None:
    """Train runs by their new configs, in ``most`` workers. Returns the signal that has stopped it."""
    wanted = [config for _, config in pairs]
    stored = max(config.sweep.workers or 0 for config in wanted)
    if most is not None and stored > most:
        room = f"{most} workers and not the {stored} stored: this machine has room for no more"
        view.note(f"{room}; to insist: sweep.workers={stored}")
    for config in {(config.device, config.network.hidden): config for config in wanted}.values():
        check_device(config)
    loggers = {names: choose_loggers(names) for names in {config.logger for config in wanted}}
    check_batches(wanted, spaces_of(wanted))
    if exact:
        _require_exact(pairs)
    if not quiet:
        say_moving(*pairs[0])
    _extend(pairs)
    for run, config in pairs:  # for now: the runs keep them all
        run.config = replace(config, logger=loggers[config.logger])
    with Interrupts() as interrupts:
        train_sweep(sweep, places_of([run for run, _ in pairs], view.note), view, interrupts, held, most)
    return interrupts.signal


def _send_finished(pairs: Iterable[tuple[Run, RunConfig]]) -> None:
    """Give the loggers what runs have recorded that are not gone on with."""
    done = [replace(run, config=config) for run, config in pairs if config.logger and not _is_left(run, config)]
    if done:
        send_finished(done)


def _is_left(run: Run, config: RunConfig) -> bool:
    if run.manifest["status"] != "finished":
        return True
    return extends(run, config) and not reached_limits(run, config)


def _without_environment(runs: Sequence[Run]) -> dict[Path, str]:
    """Why runs can't go on whose configs ask for environments that can't be made: the others are not to wait for them."""
    reasons: dict[str, str] = {}
    for key, config in {repr(run.config.env): run.config for run in runs}.items():
        try:
            spaces_of([config])
        except RlrunError as error:
            reasons[key] = " ".join(str(error).splitlines())
    return {run.directory: reasons[key] for run in runs if (key := repr(run.config.env)) in reasons}


def _extend(pairs: Sequence[tuple[Run, RunConfig]]) -> None:
    """Give the runs their configs; all, or none if one of them is in use. Raises LockedError, ResumeError, StorageError."""
    for run, _ in pairs:
        with run.lock():
            """It is free."""
    for run, config in pairs:
        if config != run.config:
            with run.lock():  # only for as long as we write: the workers take it again
                extend(run, config)


def _require_exact(pairs: Sequence[tuple[Run, RunConfig]]) -> None:
    """Raises ResumeError if a run can't be continued exactly in the batch it would be in."""
    before = {run.directory: run for run, _ in pairs}
    batches, _ = plan_sweep(places_of([replace(run, config=config) for run, config in pairs], say))
    for batch in batches:
        for run in batch.runs:
            require_exact(before[run.directory], run.config, len(batch.runs))
