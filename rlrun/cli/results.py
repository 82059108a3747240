"""The end of a command that trained: what came out, where it is, and what to type next."""

from __future__ import annotations

from collections import Counter

from rlrun.cli.output import counted, from_here, say, shown_evaluation, shown_number, shown_path
from rlrun.cli.plot import draw_at_end
from rlrun.cli.sweep_table import print_sweep
from rlrun.errors import SIGNAL_BASE, LostFileError, RlrunError, SweepError
from rlrun.finding import SWEEP_LIST
from rlrun.plain import printable
from rlrun.run import Run
from rlrun.sweeps.summary import NO_CHECKPOINT, rows_of
from rlrun.sweeps.sweep import Sweep

_STOPPED = ("stopped", "interrupted")
_MOST_FAILURES = 20


def finish_run(run: Run, status: str, error: RlrunError | None, signal: int | None, quiet: bool) -> int:
    """Report on one run and return the exit code. Raises the error that ended it."""
    where = shown_path(run.directory)
    if quiet:
        say(printable(from_here(run.directory)))  # for a script: as it is, not quoted for a shell
    if error is not None:
        if not quiet:
            say(f"run: {where}")
        raise error
    if signal is not None:
        say(f"stopped at frame {run.manifest['frames']:,}, checkpoint saved; continue with: rlrun resume {where}")
        return SIGNAL_BASE + signal
    if not quiet:
        _summarise(run, status, where)
    figures = draw_at_end([run], run.directory)
    if not quiet:
        if figures:
            say(f"figures: {figures}")
        say(f"next: rlrun eval {where} --episodes 100")
        say(f"      rlrun resume {where} total_frames={2 * run.config.total_frames}")
    return 0


def _summarise(run: Run, status: str, where: str) -> None:
    manifest = run.manifest
    speed = shown_number(manifest["frames_per_second"], 0)
    say(f"{status}: {manifest['frames']:,} frames, {speed} frames/s")
    if isinstance(manifest["evaluation"], dict):
        mean, deviation = (shown_evaluation(manifest["evaluation"], key) for key in ("return_mean", "return_std"))
        best = f" (best {shown_evaluation(manifest['best'])})" if isinstance(manifest.get("best"), dict) else ""
        episodes = counted(manifest["evaluation"].get("episodes"), "episode")
        say(f"evaluation: return {mean} ± {deviation} over {episodes}{best}")
    say(f"run: {where}")


def finish_sweep(sweep: Sweep, signal: int | None, quiet: bool) -> int:
    """Report on a sweep and return the exit code; ``signal`` is what came from outside meanwhile.

    Raises:
        SweepError: jobs failed; one line for each. LostFileError: the sweep was deleted meanwhile.
    """
    if not sweep.directory.is_dir():
        raise LostFileError(f"sweep {shown_path(sweep.directory)} has vanished while it was trained")
    rows = rows_of(sweep.runs, sweep.errors)
    if not quiet:
        print_sweep(rows, sweep.runs, say)
    say(printable(from_here(sweep.directory)) if quiet else shown_path(sweep.directory))
    count = Counter(row.status for row in rows)
    stopped = sum(count[status] for status in _STOPPED)
    if signal is None and count["finished"]:
        figures = draw_at_end(sweep.runs, sweep.directory, is_sweep=True)
        if figures and not quiet:
            say(f"figures: {figures}")
    if signal is not None and stopped + count["waiting"]:
        state = (
            f"{count['finished']} done, {count['failed']} failed, {stopped} resumable, {count['waiting']} not started"
        )
        say(f"interrupted: {state}; continue with: rlrun resume {shown_path(sweep.directory)}")
        return SIGNAL_BASE + signal
    failed = [f"{row.label}: {row.error or row.status}" for row in rows if row.status != "finished"]
    failed += [f"{printable(name)}: {reason}" for name, reason in sweep.unreadable.items()]
    if sweep.unsaved is not None:
        failed.insert(0, sweep.unsaved)
    if failed:
        most, many = failed[:_MOST_FAILURES], len(failed)
        rest = [f"and {many - len(most)} more; see {SWEEP_LIST}"] if many > len(most) else []
        left = [row for row in rows if row.status != "finished" and row.error != NO_CHECKPOINT]
        again = "what is left has lost what it could go on from; start it again by itself"
        if left:
            again = f"rlrun resume {shown_path(sweep.directory)} tries them again"
        lines = [f"{count['finished']} of {len(rows) + len(sweep.unreadable)} jobs ok; {again}"]
        raise SweepError("\n".join([*lines, *(" ".join(line.split()) for line in most), *rest]))
    return 0
