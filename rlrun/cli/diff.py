"""``rlrun diff A B``: the settings in which two runs, or two sweeps, differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.output import counted, deliver_json, deliver_line, print_table
from rlrun.finding import find, find_sweep
from rlrun.plain import printable
from rlrun.reports.records import Record, read_record, select

_FACTS = ("versions", "machine", "numerics", "git")
_PLAIN_FACTS = ("device", "implementation", "exact", "resumed", "frames", "tuned", "experiment")
_MOST_SHOWN = 4
_EXAMPLES = """examples:
  rlrun diff 2026-11-24/0930 latest
  rlrun diff 2026-11-24_2158 2026-11-25_0915 --all    two sweeps, and what they were trained with"""


@dataclass(frozen=True)
class Varying:
    """The values that a key has in the runs of a sweep, where it has several."""

    values: tuple[Any, ...]


def main(arguments: list[str]) -> int:
    """Compare two configs. Returns 0 whether they differ or not: every other code is an error."""
    parser = Parser("diff", "Show the settings in which two runs differ; of a sweep, what its runs have.", _EXAMPLES)
    parser.add_argument("a", metavar="A", help="a run or sweep: its directory, the beginning of its name, or latest")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--all", action="store_true", help="versions, machine, git and how they were trained, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object: KEY: [of A, of B]")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    sides = [_records(name, options.outputs) for name in (options.a, options.b)]
    settings = _differing(*([record.settings for record in side] for side in sides))
    facts = _differing(*([_facts(record) for record in side] for side in sides)) if options.all else {}
    if options.json:
        found = {"settings": settings} | ({"facts": facts} if options.all else {})
        deliver_json(
            {part: {key: list(map(_plain, pair)) for key, pair in pairs.items()} for part, pairs in found.items()}
        )
        return 0
    names = [_name(side) for side in sides]
    for title, pairs in (("setting", settings), *([("fact", facts)] if options.all else [])):
        if pairs:
            rows = [[key, *map(_shown, pair)] for key, pair in pairs.items()]
            print_table([title, *names], rows, deliver_line, styles=("", "red", "green"))
        else:
            deliver_line(f"no {title} differs between {names[0]} and {names[1]}")
    return 0


def _records(name: str, outputs: Path) -> list[Record]:
    """The run, or the runs of the sweep, that is meant. Raises UsageError, ResumeError."""
    sweep = find_sweep(name, outputs)
    if sweep is not None:
        return select([str(sweep)], outputs).records
    return [read_record(find(name, outputs))]


def _name(side: Sequence[Record]) -> str:
    sweep = side[0].sweep
    return printable(side[0].name if sweep is None else f"{sweep.name} ({counted(len(side), 'run')})")


def _facts(record: Record) -> dict[str, Any]:
    """What run.json says of where a run came from, flat."""
    run = record.manifest
    facts = {
        f"{part}.{key}": value for part in _FACTS if isinstance(run.get(part), dict) for key, value in run[part].items()
    }
    population = run.get("population")
    facts["population"] = population.get("size") if isinstance(population, dict) else None
    return facts | {key: run.get(key) for key in _PLAIN_FACTS}


def _differing(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Key -> what it is in the runs of either side, for each key that is not the same in both."""
    found = dict.fromkeys(key for values in (*left, *right) for key in values)
    groups = list(dict.fromkeys(map(_group, found)))
    keys = sorted(found, key=lambda key: groups.index(_group(key)))  # those that only the other algorithm has, too
    pairs = {key: (_common(left, key), _common(right, key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}


def _group(key: str) -> str:
    return key.partition(".")[0]


def _common(side: Sequence[Mapping[str, Any]], key: str) -> Any:
    """The value of ``key`` in all of a side, ``...`` where it has none, or all that it has."""
    values = {repr(each.get(key, ...)): each.get(key, ...) for each in side}
    return next(iter(values.values())) if len(values) == 1 else Varying(tuple(values[text] for text in sorted(values)))


def _plain(value: Any) -> Any:
    """As JSON has it: null for what is not there, and ``{"varies": [...]}`` for a sweep."""
    if isinstance(value, Varying):
        return {"varies": [_plain(each) for each in value.values]}
    return None if value is ... else value


def _shown(value: Any) -> str:
    if isinstance(value, Varying):
        some = ", ".join(map(_shown, value.values[:_MOST_SHOWN]))
        return f"{some}, ... ({len(value.values)} values)" if len(value.values) > _MOST_SHOWN else some
    text = (
        "-"
        if value is ...
        else "null"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}..."
