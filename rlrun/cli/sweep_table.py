"""The tables of a sweep: a line for each job, and statistics over the seeds of each setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlrun.cli.output import print_table, shown_number
from rlrun.finding import SWEEP_LIST
from rlrun.reports.scores import MEASURES
from rlrun.run import Run
from rlrun.sweeps.summary import Group, Row, groups_of

_MOST_ROWS, _MOST_GROUPS = 16, 40


def print_sweep(
    rows: Sequence[Row], runs: Sequence[Run], write: Callable[[str], None], most_rows: int = _MOST_ROWS
) -> None:
    """A line for each job, if there are at most ``most_rows``, and statistics over seeds."""
    if len(rows) <= most_rows:
        _print_rows(rows, write)
    _print_groups(rows, runs, write, most_rows)


def _print_rows(rows: Sequence[Row], write: Callable[[str], None]) -> None:
    keys = list(rows[0].settings)
    columns = ["#", *keys, "status", "return", "frames", "run"]
    cells = [
        [
            str(row.job),
            *row.settings.values(),
            row.status,
            shown_number(row.return_mean),
            f"{row.frames:,}",
            row.directory,
        ]
        for row in rows
    ]
    print_table(columns, cells, write)


def _print_groups(rows: Sequence[Row], runs: Sequence[Run], write: Callable[[str], None], most_rows: int) -> None:
    """Statistics over the seeds of each setting, unless each has one seed, whose line is there already, or none is done."""
    groups = groups_of(rows)
    measures = [measure for measure in MEASURES if any(group.measure == measure for group in groups)]
    several = len(measures) > 1
    listed = len(groups) == len(rows) and len(rows) <= most_rows
    if listed or not any(group.statistics["count"] for group in groups):
        return
    shown, order = groups, ""
    if len({run.config.env.id for run in runs}) == 1:  # returns of different environments can't be ranked
        order = "; best settings first" + (", each measure by itself" if several else "")
        shown = sorted(groups, key=lambda group: _place(group, measures))
    cells = []
    for group in shown[:_MOST_GROUPS]:
        values = group.statistics
        bounds = values["interval"]
        cells.append(
            [
                *group.settings.values(),
                str(values["count"]),
                shown_number(values["mean"]),
                shown_number(values["iqm"]),
                f"[{shown_number(bounds[0])}, {shown_number(bounds[1])}]" if bounds else "-",
                shown_number(values["best"]),
                str(group.failed),
                *([group.measure or "-"] if several else []),
            ]
        )
    write("")
    heads = ["seeds", "mean", "IQM", "95% interval", "best", "failed", *(["measure"] if several else [])]
    print_table([*groups[0].settings, *heads], cells, write)
    if len(groups) > _MOST_GROUPS:
        write(f"and {len(groups) - _MOST_GROUPS} more; see {SWEEP_LIST}")
    write(f"returns: {' or '.join(measures)}{order}")


def _place(group: Group, measures: Sequence[str]) -> tuple[int, float]:
    """By measure, then best first; at the end what has no return."""
    value = group.statistics["iqm"]
    return (len(measures), 0.0) if value is None else (measures.index(group.measure), -value)
