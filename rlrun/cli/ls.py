"""``rlrun ls``: the runs and sweeps in a folder, newest first, or in another order; some of them, if that is asked."""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.filters import SORTING, Filter, age_of, ordered, parse_filters
from rlrun.cli.groups import check_is_folder
from rlrun.cli.output import (
    counted,
    deliver_json,
    deliver_line,
    print_table,
    shown_evaluation,
    shown_number,
    shown_size,
    shown_time,
    shown_truth,
)
from rlrun.deletion import size_of
from rlrun.errors import ResumeError
from rlrun.finding import find_all, is_run, is_sweep, list_runs, listed, runs_in
from rlrun.plain import printable
from rlrun.reports.scores import TRAINING, final_return, number_in, ranked_measure
from rlrun.reports.statistics import iqm
from rlrun.reports.stored_settings import settings_of

_COLUMNS = ("run", "status", "algo", "env", "seed", "frames", "return", "best", "speed", "exact", "age", "size")
_LEAST = ("exact", "speed", "size", "best", "algo", "seed", "env", "frames")

_EPILOG = """examples:
  rlrun ls
  rlrun ls --filter algo=ppo env=hopper status=done
  rlrun ls --filter 'return>400' algo.gamma=0.9,0.99 'age<7d' --sort return

Filters hold together; KEY is a column, or any setting.
The return is of the last evaluation; "training": of the last 100 training episodes of a run that never evaluates.
--sort puts these after the others. A sweep is one line: return is the IQM over its finished runs, of those that evaluate
if any does, best the best of all, speed the median of one run.
rlrun ls SWEEP lists its runs. --json lists runs only, each with its directory; of a sweep, rlrun show SWEEP --json."""


def main(arguments: list[str]) -> int:
    """List runs."""
    options = _parser().parse_intermixed_args(arguments)
    filters = parse_filters(options.filter)
    if os.path.exists(options.outputs):
        check_is_folder("--outputs", options.outputs)
    runs = _named(options.runs, options.outputs) if options.runs else list_runs(options.outputs)
    rows = [row for row in map(facts_of, runs) if _fits(row, filters)]
    if options.json:
        deliver_json([row["manifest"] | {"size": row["size"]} for row in ordered(rows, options.sort, options.reverse)])
    elif not rows:
        where = printable(options.outputs)
        deliver_line("no run fits; rlrun ls shows all" if runs else f"no run in {where} yet; start one with: rlrun")
    else:
        rows = rows if options.all or options.runs else _with_sweeps(rows)
        cells = [_cells(row) for row in ordered(rows, options.sort, options.reverse)]
        print_table(_COLUMNS, cells, deliver_line, _LEAST)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "ls",
        "List runs and sweeps, newest first. A name, or how it begins, is what other commands take.",
        _EPILOG,
    )
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN|SWEEP", help="only these; of a sweep, its runs")
    add(
        "--filter",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="only what fits; also != < > <= >=",
    )
    add("--sort", choices=SORTING, default="age", help="newest, best, most or largest first; name: from a to z")
    add("-r", "--reverse", action="store_true", help="the other way round")
    add("-a", "--all", action="store_true", help="the runs of sweeps too, each by itself")
    add("--json", action="store_true", help="print every run's manifest as one JSON list")
    add_outputs(parser)
    return parser


def _named(selectors: Sequence[str], outputs: Path) -> list[dict[str, Any]]:
    """The runs that were named, and those of the sweeps that were."""
    directories: dict[Path, None] = {}
    for path in find_all(selectors, outputs):
        members = sorted(runs_in(path)) if is_sweep(path) and not is_run(path) else [path]
        if not members:
            raise ResumeError(f"{printable(path)} has no run any more")
        directories |= dict.fromkeys(members)
    return [listed(directory) for directory in directories]


def facts_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run can be shown, chosen and sorted by; its run.json may be anyone's. Its ``size`` takes a walk through it."""
    directory = Path(run["directory"])
    value, measure = _final_return(run)
    return {
        **{key: run.get(key) for key in ("algo", "name", "seed", "frames", "total_frames", "exact", "status")},
        **{key: run.get(key) for key in ("device", "tuned", "experiment", "resumed", "episodes", "implementation")},
        "run": directory.name,
        "env": (run.get("env"), run.get("env_id")),
        "return": value,
        "measure": measure,
        "best": number_in(run.get("best"), "return_mean"),
        "speed": run.get("frames_per_second"),
        "age": age_of(run["created"]),
        "size": size_of(directory),
        "manifest": run,
    }


def _final_return(run: Mapping[str, Any]) -> tuple[float | None, str]:
    """A run's return and its measure."""
    directory, episodes = Path(run["directory"]), None
    if run["status"] != "unreadable":
        with contextlib.suppress(ResumeError):
            episodes = settings_of(directory).get("evaluation.episodes")
    return final_return(directory, run, episodes)


def _fits(row: Mapping[str, Any], filters: Sequence[Filter]) -> bool:
    if not all(each.fits(row, {}) for each in filters if not each.of_settings):
        return False
    if not any(each.of_settings for each in filters):
        return True
    try:
        settings = settings_of(Path(row["manifest"]["directory"]))
    except ResumeError:  # what can't be read fits nothing
        return False
    return all(each.fits(row, settings) for each in filters if each.of_settings)


def _with_sweeps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of runs, those of a sweep together as one."""
    together: list[dict[str, Any]] = []
    members: dict[Path, list[dict[str, Any]]] = {}
    for row in rows:
        parent = Path(row["manifest"]["directory"]).parent
        if parent in members or is_sweep(parent):
            members.setdefault(parent, []).append(row)
        else:
            together.append(row)
    return [*together, *(_sweep_facts(sweep, same) for sweep, same in members.items())]


def _sweep_facts(sweep: Path, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def numbers(key: str) -> list[float]:
        return [float(value) for member in members if is_number(value := member[key])]

    counts = Counter(member["status"] for member in members)
    order = sorted(counts, key=lambda status: -counts[status])
    statuses = order[0] if len(order) == 1 else ", ".join(f"{counts[status]} {status}" for status in order)
    exact = {member["exact"] for member in members if isinstance(member["exact"], bool)}
    best, speeds, ages = (numbers(key) for key in ("best", "speed", "age"))
    finished = [member for member in members if member["status"] == "finished" and member["return"] is not None]
    measure = ranked_measure({member["measure"] for member in finished})
    returns = [member["return"] for member in finished if member["measure"] == measure]
    return {
        "run": sweep.name,
        "status": statuses,
        "runs": len(members),
        "algo": _together(member["algo"] for member in members),
        "env": (_together(member["env"][0] for member in members), None),
        "frames": int(sum(numbers("frames"))),
        "total_frames": int(sum(numbers("total_frames"))),
        "return": iqm(returns) if returns else None,
        "measure": measure,
        "best": max(best, default=None),
        "speed": float(np.median(speeds)) if speeds else None,
        "exact": False not in exact if exact else None,
        "age": max(ages, default=None),
        "size": sum(member["size"] for member in members),
    }


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _together(values: Any) -> str:
    return ",".join(dict.fromkeys(value for value in values if isinstance(value, str)))


def _shown_return(row: Mapping[str, Any]) -> str:
    if row["measure"] == TRAINING:
        return "-" if row["return"] is None else f"{shown_number(row['return'])} training"
    return shown_number(row["return"]) if "runs" in row else shown_evaluation(row["manifest"]["evaluation"])


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["status"] == "unreadable":
        return [row["run"], "unreadable", *"-" * (len(_COLUMNS) - 3), shown_size(row["size"])]
    manifest = row.get("manifest")
    return [
        row["run"],
        row["status"],
        row["algo"],
        row["env"][0],
        counted(row["runs"], "run") if "runs" in row else shown_number(row["seed"], 0).replace(",", ""),
        f"{shown_number(row['frames'], 0)}/{shown_number(row['total_frames'], 0)}",
        _shown_return(row),
        shown_number(row["best"]) if manifest is None else shown_evaluation(manifest.get("best")),
        shown_number(row["speed"], 0),
        shown_truth(row["exact"]),
        shown_time(row["age"]),
        shown_size(row["size"]),
    ]
