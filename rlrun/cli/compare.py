"""``rlrun compare A B``: what runs of different settings are worth, and whether that is more than luck."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import shutil
import textwrap
from collections.abc import Iterator, Sequence

from rlrun.cli.arguments import Parser, add_outputs, integer
from rlrun.cli.output import counted, deliver, deliver_json, deliver_line, warn
from rlrun.errors import ResumeError, UsageError
from rlrun.plain import printable
from rlrun.reports.comparison import Comparison, Environment, compare
from rlrun.reports.comparison_json import plain
from rlrun.reports.comparison_tables import (
    curves_table,
    overall_tables,
    scores_table,
    settings_table,
    spreadsheet,
    threshold_table,
    versus_table,
)
from rlrun.reports.notes import conclusions, conclusions_over_all, measured, notes_of
from rlrun.reports.overall import Overall, overall
from rlrun.reports.records import Record, select
from rlrun.reports.scores import METRICS
from rlrun.reports.tables import Table, csv_of, markdown_cell, markdown_of, text_of

_EPILOG = """examples:
  rlrun compare 2026-11-24_2158                         the settings of a sweep
  rlrun compare '*_dqn_*' '*_ppo_*' --threshold 450     globs of names of runs and sweeps
  rlrun compare A B --markdown > comparison.md

Runs of the same settings are seeds of one entry. Unfinished and failed runs are left out, and named, unless
they got as far as --at. Intervals are
95 % percentile bootstraps over seeds (10,000 draws, the same each time). Several environments are compared one by
one, and over all of them by who wins; --normalize puts their scores on one scale."""

_UNBOUNDED = 1 << 30  # letters in a line
_MOST_NAMED = 6


def main(arguments: list[str]) -> int:
    """Compare runs."""
    parser = Parser("compare", "Compare settings over their seeds: runs, sweeps or globs of their names.", _EPILOG)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a run, a sweep, latest, the beginning of a name, or a glob in quotes")
    add(
        "--metric",
        choices=METRICS,
        help="; ".join(f"{name}: {what}" for name, what in METRICS.items()) + "; default final",
    )
    add("--threshold", type=_finite, metavar="X", help="frames and seconds until an evaluation returns X")
    add("--at", type=integer(1, 2**53), metavar="FRAMES", help="compare at these frames whatever has reached them")
    add("--pool", action="store_true", help="count the seeds of equal settings in different sweeps together")
    add("--normalize", action="append", type=_scale, metavar="ENV=LOW:HIGH", help="scores of ENV that count as 0 and 1")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object with all numbers")
    form.add_argument("--csv", action="store_true", help="print a row for each setting")
    form.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    selection = select(options.runs, options.outputs)
    records = [dataclasses.replace(record, sweep=None) if options.pool else record for record in selection.records]
    comparison = compare(records, options.metric or _usual_metric(records), options.threshold, options.at)
    if not any(entry.members for entry in comparison.entries):
        raise ResumeError(_nothing(comparison))
    scales = _scales(options.normalize or [])
    over_all = overall(comparison, scales)
    if scales and len(comparison.environments) == 1:
        raise UsageError(
            f"--normalize puts several environments on one scale, and all runs here are of {next(iter(scales))}; leave it out"
        )
    notes = notes_of(comparison, selection.unreadable)
    if isinstance(over_all, str) and len(comparison.environments) > 1:
        notes.append(f"nothing is said over all environments: {over_all}")
    if options.json:
        deliver_json(plain(comparison, over_all, notes))
    elif options.csv:
        deliver(csv_of(*spreadsheet(comparison)))
        for line in (*_concluded(comparison, over_all), *notes):
            warn(line)
    elif options.markdown:
        _print_markdown(comparison, over_all, notes)
    else:
        _print_text(comparison, over_all, notes)
    return 0


def _print_text(comparison: Comparison, over_all: Overall | str, notes: Sequence[str]) -> None:
    width = shutil.get_terminal_size((80, 24)).columns
    _wrapped(_head(comparison), width)
    for environment in comparison.environments:
        deliver_line()
        if len(comparison.environments) > 1:
            deliver_line(environment.env_id)
        for table in _tables(environment, width):
            _print_table(table, width)
        for line in conclusions(environment):
            _wrapped(line, width, "=> ")
    if isinstance(over_all, Overall):
        for table in overall_tables(over_all):
            deliver_line()
            _print_table(table, width)
        for line in conclusions_over_all(over_all):
            _wrapped(line, width, "=> ")
    if notes:
        deliver_line()
    for line in notes:
        _wrapped(line, width, "note: ")


def _print_table(table: Table, width: int) -> None:
    _wrapped(table.title, width)
    for line in text_of(table, width - 2):
        deliver_line(f"  {line}")
    deliver_line()


def _wrapped(line: str, width: int, mark: str = "") -> None:
    """Lines between words: names stay whole, to be copied."""
    layout = textwrap.TextWrapper(
        max(width, 20),
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_on_hyphens=False,
        break_long_words=False,
    )
    for part in layout.wrap(printable(line)):
        deliver_line(part)


def _print_markdown(comparison: Comparison, over_all: Overall | str, notes: Sequence[str]) -> None:
    deliver_line(f"**{markdown_cell(_head(comparison))}**\n")
    for environment in comparison.environments:
        deliver_line(f"### {markdown_cell(environment.env_id)}\n")
        for table in _tables(environment, _UNBOUNDED):
            deliver_line(f"{markdown_cell(table.title)}:\n\n{markdown_of(table)}")
        _print_list(conclusions(environment))
    if isinstance(over_all, Overall) and overall_tables(over_all):
        deliver_line("### All environments\n")
        for table in overall_tables(over_all):
            deliver_line(f"{markdown_cell(table.title)}:\n\n{markdown_of(table)}")
        _print_list(conclusions_over_all(over_all))
    _print_list(notes)


def _print_list(lines: Sequence[str]) -> None:
    for line in lines:
        deliver_line(f"- {markdown_cell(line)}")
    if lines:
        deliver_line()


def _tables(environment: Environment, width: int) -> Iterator[Table]:
    """Those that have something to show."""
    tables = (
        settings_table(environment, width),
        scores_table(environment.entries, width - 2),
        versus_table(environment.versus) if environment.versus else None,
        threshold_table(environment),
        curves_table(environment),
    )
    yield from (table for table in tables if table is not None)


def _head(comparison: Comparison) -> str:
    runs = sum(len(entry.members) for entry in comparison.entries)
    return f"{counted(runs, 'run')} of {counted(len(comparison.entries), 'setting')}: {measured(comparison)}"


def _concluded(comparison: Comparison, over_all: Overall | str) -> list[str]:
    lines = [line for environment in comparison.environments for line in conclusions(environment)]
    return lines if isinstance(over_all, str) else [*lines, *conclusions_over_all(over_all)]


def _usual_metric(records: Sequence[Record]) -> str:
    """As a sweep's own table: the last evaluation, or training episodes if nothing was evaluated."""
    return "training" if all(record.settings.get("evaluation.episodes") == 0 for record in records) else "final"


def _nothing(comparison: Comparison) -> str:
    left_out = [(record, why) for entry in comparison.entries for record, why in entry.left_out]
    lines = [f"{printable(record.name)}: {why}" for record, why in left_out[:_MOST_NAMED]]
    more = [f"and {len(left_out) - _MOST_NAMED} more"] if len(left_out) > _MOST_NAMED else []
    return "\n".join(["no run here can be compared; rlrun ls shows which have finished", *lines, *more])


def _finite(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")


def _scale(text: str) -> tuple[str, float, float]:
    env_id, _, bounds = text.rpartition("=")
    low, _, high = bounds.partition(":")
    with contextlib.suppress(ValueError):
        if env_id and -math.inf < float(low) < float(high) < math.inf:
            return env_id, float(low), float(high)
    raise argparse.ArgumentTypeError(f"expected ENV=LOW:HIGH with LOW below HIGH, got {text!r}")


def _scales(typed: Sequence[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    names = [env_id for env_id, _, _ in typed]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--normalize {twice[0]}=... is given twice; keep one")
    return {env_id: (low, high) for env_id, low, high in typed}
