"""``rlrun ls``: the runs in a folder, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.groups import check_is_folder
from rlrun.cli.output import deliver_json, deliver_line, print_table, shown_evaluation, shown_number
from rlrun.finding import list_runs
from rlrun.plain import printable

_COLUMNS = ("run", "status", "algo", "env", "seed", "frames", "return", "best")


def main(arguments: list[str]) -> int:
    """List runs."""
    parser = Parser("ls", "List runs, newest first. The name of a run, or its beginning, is what other commands take.")
    add_outputs(parser)
    parser.add_argument("--json", action="store_true", help="print every run's manifest as one JSON list")
    options = parser.parse_args(arguments)
    if options.outputs.exists():
        check_is_folder("--outputs", options.outputs)
    runs = list_runs(options.outputs)
    if options.json:
        deliver_json(runs)
    elif not runs:
        deliver_line(f"no run in {printable(options.outputs)} yet; start one with: rlrun")
    else:
        print_table(_COLUMNS, [_row(run) for run in runs], deliver_line)
    return 0


def _row(run: dict[str, Any]) -> list[str]:
    name = Path(run["directory"]).name
    if run["status"] == "unreadable":
        return [name, "unreadable", "-", "-", "-", "-", "-", "-"]
    return [
        name,
        run["status"] + (", inexact" if run.get("exact") is False else ""),
        run["algo"],
        run["env"],
        shown_number(run["seed"], 0).replace(",", ""),
        f"{shown_number(run['frames'], 0)}/{shown_number(run['total_frames'], 0)}",
        shown_evaluation(run["evaluation"]),
        shown_evaluation(run.get("best")),
    ]
