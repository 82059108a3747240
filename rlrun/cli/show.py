"""``rlrun show RUN``: all there is to know of a run or a sweep, on one screen. It reads, and imports no torch."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrun.checkpoint_names import BEST_FILE
from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.filters import age_of
from rlrun.cli.output import (
    counted,
    deliver_json,
    deliver_line,
    shown_evaluation,
    shown_number,
    shown_path,
    shown_size,
    shown_time,
)
from rlrun.deletion import size_of
from rlrun.finding import find, find_sweep, is_sweep
from rlrun.manifest import texts
from rlrun.plain import printable
from rlrun.reports.records import read_record
from rlrun.reports.summary import SavedFile, checkpoints_of, own_settings
from rlrun.reports.typed import typed_settings

_WIDTH = 12

_EXAMPLES = """examples:
  rlrun show latest
  rlrun show 2026-11-24_2158        a sweep, by how its name begins
  rlrun show latest --json"""


def main(arguments: list[str]) -> int:
    """Show one run or sweep."""
    parser = Parser(
        "show",
        "Show what a run is, how it went, what it holds and what can be done with it; or a sweep's results.",
        _EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN|SWEEP", help="its directory, the beginning of its name, or latest")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    sweep = find_sweep(options.run, options.outputs)
    if sweep is not None:
        _show_sweep(sweep, options.json)
    else:
        _show_run(find(options.run, options.outputs), options.json)
    return 0


# --- a run -----------------------------------------------------------------------------------------------------------


def _show_run(directory: Path, as_json: bool) -> None:
    """Raises ResumeError: its run.json or config.yaml can't be read."""
    record = read_record(directory)
    manifest = record.manifest | {"status": record.status}
    saved, own = checkpoints_of(directory), own_settings(record.settings)
    if as_json:
        deliver_json(
            manifest
            | {
                "directory": str(directory),
                "size": size_of(directory),
                "checkpoints": [dataclasses.asdict(each) for each in saved],
                "settings": record.settings,
                "changed": {key: {"value": value, "default": default} for key, (value, default) in own.items()},
            }
        )
        return
    _line(f"{directory.name}  {manifest['status']}")
    for name, text in _facts(directory, manifest):
        _line(f"  {name:<{_WIDTH}} {text}")
    _section("checkpoints", [_checkpoint_line(each) for each in saved] or ["none"])
    width = min(max(map(len, own), default=0), 40)
    values = {key: f"{_shown(value)}" for key, (value, _) in own.items()}
    most = min(max(map(len, values.values()), default=0), 30)
    _section(
        "settings that are not rlrun's defaults",
        [f"{key:<{width}}  {values[key]:<{most}}  (default {_shown(own[key][1])})" for key in own] or ["none"],
    )
    typed, left_out = typed_settings(manifest)
    command = shlex.join(["rlrun", *typed]) if typed else "nothing is known"
    _section("typed", [command, *([left_out] if left_out else [])])
    _section("next", _next(directory, manifest["status"], saved))


def _facts(directory: Path, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    seconds, wall = run.get("seconds"), run.get("wall_seconds")
    spent = f"trained {_spent(seconds)}" + (f", {_spent(wall)} in all" if wall is not None else "")
    facts = [
        ("reason", _text(run.get("failure"))),
        (
            "what",
            f"{run['algo']} on {run['env']} ({run['env_id']}), seed {shown_number(run['seed'], 0).replace(',', '')}",
        ),
        ("directory", f"{shown_path(directory)}, {shown_size(size_of(directory))}"),
        ("sweep", _of_sweep(directory, run)),
        ("begun", f"{_moment(run['created'])}, {shown_time(age_of(run['created']))} ago; {spent}"),
        ("updated", f"{_moment(run['updated'])}" + _resumed(run.get("resumed"))),
        ("frames", _progress(run)),
        ("evaluation", _evaluation(run["evaluation"])),
        ("best", _evaluation(run.get("best"))),
        ("exact", _exactness(run)),
        (
            "computed by",
            ", ".join(filter(None, (run["device"], _text(run.get("implementation")), _joined(run.get("numerics"))))),
        ),
        ("versions", _joined(run.get("versions"))),
        ("machine", _joined(run.get("machine"))),
        ("git", _git(run.get("git"))),
        ("settings", ", ".join(filter(None, (_text(run.get("experiment")), _text(run.get("tuned")))))),
        ("reproduces", _text(run.get("reproduces"))),
    ]
    return [(name, text) for name, text in facts if text]


def _of_sweep(directory: Path, run: Mapping[str, Any]) -> str:
    parent = directory.resolve().parent
    if not is_sweep(parent):
        return ""
    job, jobs = run.get("job"), run.get("jobs")
    return f"{parent.name}, job {shown_number(job, 0)} of {shown_number(jobs, 0)}"


def _spent(seconds: Any) -> str:
    return f"{shown_number(seconds)}s" if isinstance(seconds, int | float) and seconds < 120 else _long(seconds)


def _long(seconds: Any) -> str:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and abs(seconds) < 1e15
    return shown_time(seconds) if number else shown_number(seconds)


def _moment(text: str) -> str:
    return f"{text[:10]} {text[11:19]} UTC"


def _resumed(count: Any) -> str:
    if not isinstance(count, int) or isinstance(count, bool) or count == 0:
        return ""
    return f"; resumed {'once' if count == 1 else f'{shown_number(count, 0)} times'}"


def _progress(run: Mapping[str, Any]) -> str:
    episodes = f", {shown_number(run['episodes'], 0)} episodes" if run.get("episodes") is not None else ""
    speed = f", {shown_number(run['frames_per_second'], 0)} frames/s" if run["frames_per_second"] is not None else ""
    return f"{shown_number(run['frames'], 0)}/{shown_number(run['total_frames'], 0)}{episodes}{speed}"


def _evaluation(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    mean, deviation, iqm, low, high = (
        shown_evaluation(value, f"return_{key}") for key in ("mean", "std", "iqm", "min", "max")
    )
    where = f"{shown_number(value.get('episodes'), 0)} episodes at frame {shown_number(value.get('frames'), 0)}"
    return f"return {mean} ± {deviation} (IQM {iqm}, {low} to {high}) over {where}"


def _exactness(run: Mapping[str, Any]) -> str:
    if not isinstance(run.get("exact"), bool):
        return ""
    reasons = "; ".join(texts(run.get("inexact_because")))
    alone = _text(run.get("alone"))
    population = run.get("population")
    size = population.get("size") if isinstance(population, dict) else None
    together = (
        f"; trained in a population of {size}, {alone} alone" if isinstance(size, int) and size > 1 and alone else ""
    )
    return ("yes" if run["exact"] else f"no: {reasons or 'no reason given'}") + together


def _git(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    return f"{value.get('sha')}" + (", with changes" if value.get("dirty") is True else "")


def _joined(value: Any) -> str:
    """``torch 2.13.0, numpy 2.4.6`` of a mapping."""
    return (
        ", ".join(f"{key} {text}" for key, text in value.items() if text is not None) if isinstance(value, dict) else ""
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _shown(value: Any) -> str:
    """As it is typed."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}" or "''"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _checkpoint_line(saved: SavedFile) -> str:
    frames = f"frame {saved.frames:,}" if saved.frames is not None else f"unusable: {saved.problem}"
    return f"{saved.name:<23}  {shown_size(saved.size):>6}  {frames}"


def _next(directory: Path, status: str, saved: Sequence[SavedFile]) -> list[str]:
    where = shown_path(directory)
    lines = []
    if any(each.problem is None for each in saved):
        lines.append(f"rlrun eval {where}")
    if any(each.problem is None and each.name != BEST_FILE for each in saved) and status != "running":
        lines.append(f"rlrun resume {where}" + (" total_frames=N" if status == "finished" else ""))
    if status not in ("running", "waiting"):
        lines.append(f"rlrun reproduce {where}")
    return lines or [f"rlrun ls {where}"]


def _section(title: str, lines: Sequence[str]) -> None:
    _line()
    _line(title)
    for line in lines:
        _line(f"  {line}")


def _line(text: str = "") -> None:
    """One line: all of it may be anyone's."""
    deliver_line(printable(text))


# --- a sweep ---------------------------------------------------------------------------------------------------------


def _show_sweep(directory: Path, as_json: bool) -> None:
    """Raises ResumeError: it has no run that can be read."""
    from rlrun.cli.sweep_table import print_sweep
    from rlrun.sweeps.summary import opened, rows_of, summary_of

    runs, unreadable = opened(directory)
    rows = rows_of(runs, {})
    if as_json:
        facts = {"directory": str(directory), "size": size_of(directory), "unreadable": unreadable}
        deliver_json(facts | summary_of(runs, rows))
        return
    counts = {status: sum(row.status == status for row in rows) for status in dict.fromkeys(row.status for row in rows)}
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    _line(f"{directory.name}  {counted(len(rows), 'run')}: {states}; {shown_size(size_of(directory))}")
    print_sweep(rows, runs, _line, most_rows=1000)
    for row in rows:
        if row.error:
            _line(f"#{row.job} {row.directory}: {' '.join(row.error.split())}")
    for name, reason in unreadable.items():
        _line(f"{name}: {reason}")
    _line(f"directory: {shown_path(directory)}")
