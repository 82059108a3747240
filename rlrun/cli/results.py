"""The end of a command that trained: what came out, where it is, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rlrun.cli.output import counted, from_here, print_table, say, shown_evaluation, shown_number, shown_path
from rlrun.errors import RlrunError, SweepError
from rlrun.plain import printable
from rlrun.run import Run
from rlrun.sweeps import Result

_UNFINISHED = ("stopped", "not started")
_SIGNAL_BASE = 128  # the exit code of a process that a signal ended, as shells have it


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
        return _SIGNAL_BASE + signal
    if not quiet:
        _summarise(run, status, where)
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
    say(f"next: rlrun eval {where} --episodes 100")
    say(f"      rlrun resume {where} total_frames={2 * run.config.total_frames}")


def finish_sweep(
    directory: Path, results: Sequence[Result], signal: int | None, config_flags: Sequence[str], quiet: bool
) -> int:
    """Report on a sweep and return the exit code.

    ``signal`` is what came from outside meanwhile; ``config_flags`` are the options a job needs besides its overrides.

    Raises:
        SweepError: jobs failed; one line for each.
    """
    if not quiet:
        _print_results(results)
    say(printable(from_here(directory)) if quiet else shown_path(directory))
    if signal is not None and any(result.status in _UNFINISHED for result in results):
        _say_how_to_continue(results, config_flags)
        return _SIGNAL_BASE + signal
    failed = [(number, result) for number, result in enumerate(results, 1) if result.status == "failed"]
    if failed:
        lines = [f"{len(results) - len(failed)} of {len(results)} jobs ok, {len(failed)} failed"]
        for number, result in failed:
            lines.append(f"#{number} {' '.join(result.job.overrides)}: {' '.join(str(result.error).split())}")
        raise SweepError("\n".join(lines))
    return 0


def _say_how_to_continue(results: Sequence[Result], config_flags: Sequence[str]) -> None:
    count = Counter(result.status for result in results)
    done = len(results) - sum(count[status] for status in _UNFINISHED)
    say(f"interrupted: {done} done, {count['stopped']} resumable, {count['not started']} not started; continue with:")
    for result in results:
        if result.status == "stopped" and result.run is not None:
            say(f"  rlrun resume {shown_path(result.run.directory)}")
        elif result.status == "not started":
            say(f"  rlrun {shlex.join([*config_flags, *result.job.overrides])}")


def _print_results(results: Sequence[Result]) -> None:
    swept = _swept_keys(results)
    columns = ["#", *swept, *(["seed"] if "seed" not in swept else []), "status", "return", "best", "frames", "run"]
    rows = []
    for number, result in enumerate(results, 1):
        typed = dict(override.partition("=")[::2] for override in result.job.overrides)
        manifest = result.run.manifest if result.run else {}
        rows.append(
            [
                str(number),
                *(typed.get(key, "") for key in swept),
                *([str(result.job.config.seed)] if "seed" not in swept else []),
                result.status,
                shown_evaluation(manifest.get("evaluation")),
                shown_evaluation(manifest.get("best")),
                f"{manifest.get('frames', 0):,}",
                result.run.directory.name if result.run else "-",
            ]
        )
    print_table(columns, rows)


def _swept_keys(results: Sequence[Result]) -> list[str]:
    """The keys whose typed values differ between jobs."""
    values: dict[str, set[str]] = {}
    for result in results:
        for override in result.job.overrides:
            key, _, value = override.partition("=")
            values.setdefault(key, set()).add(value)
    return [key for key, different in values.items() if len(different) > 1]
