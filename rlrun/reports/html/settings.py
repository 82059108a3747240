"""The settings of runs as a table for each group: those in which runs differ, and those that are not rlrun's defaults, marked."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rlrun.config import ALGORITHMS, RunConfig, to_mapping
from rlrun.config.resuming import leaves
from rlrun.reports.html.markup import Html, join, shown_value, tag
from rlrun.reports.records import Record

_MOST_VALUES = 12  # of one setting
_ABSENT = object()


def settings_section(records: Sequence[Record]) -> Html:
    """The tables, the settings of the root first."""
    different = _different(records)
    keys = dict.fromkeys(key for record in records for key in record.settings)
    parts: dict[str, list[Html]] = {}
    marked: Counter[str] = Counter()
    for key in keys:
        own = _is_own(key, records)
        part = key.partition(".")[0] if "." in key else ""
        marked[part] += own or key in different
        parts.setdefault(part, []).append(_row(key, records, key in different, own))
    tables = [_table(part, rows, marked[part]) for part, rows in sorted(parts.items(), key=lambda pair: pair[0] != "")]
    both = "Highlighted: runs differ; in brackets how many have each value. " if len(records) > 1 else ""
    return join(
        tag("p", {"class": "note"}, both, "Marked with a dot: not rlrun's default."),
        tag(
            "label",
            {"class": "needs-script"},
            tag("input", {"type": "checkbox", "id": "marked-only", "checked": True}),
            " only marked ones",
        ),
        *tables,
    )


def _different(records: Sequence[Record]) -> set[str]:
    """The keys that have several values. That a key is not there says only that the run is of another algorithm."""
    texts: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.settings.items():
            texts.setdefault(key, set()).add(repr(value))
    return {key for key, several in texts.items() if len(several) > 1}


def _table(part: str, rows: Sequence[Html], marked: int) -> Html:
    summary = f" {len(rows)} settings, {marked} marked"
    heads = [tag("th", {"scope": "col"}, text) for text in ("setting", "value", "default")]
    return tag(
        "details",
        {"open": marked > 0, "class": "settings"},
        tag("summary", None, tag("strong", None, part or "run"), tag("span", {"class": "note"}, summary)),
        tag(
            "div",
            {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": f"settings: {part or 'run'}"},
            tag(
                "table",
                {"class": "some" if marked else None},
                tag("thead", None, tag("tr", None, *heads)),
                tag("tbody", None, *rows),
            ),
        ),
    )


def _row(key: str, records: Sequence[Record], differs: bool, own: bool) -> Html:
    having = [record for record in records if key in record.settings]
    values = Counter(_text(value) for value in _in_order([record.settings[key] for record in having]))
    shown = [
        tag("span", {"class": "value"}, text, tag("small", None, f" ({count})") if differs else None)
        for text, count in list(values.items())[:_MOST_VALUES]
    ]
    if len(values) > _MOST_VALUES:
        shown.append(tag("small", None, f"and {len(values) - _MOST_VALUES} more values"))
    defaults = dict.fromkeys(_text(_defaults(_algorithm(record)).get(key, _ABSENT)) for record in having)
    classes = " ".join(name for name, holds in (("differs", differs), ("own", own)) if holds)
    return tag(
        "tr",
        {"class": classes or None},
        tag("th", {"scope": "row"}, tag("code", None, key)),
        tag("td", None, *shown),
        tag("td", {"class": "note"}, " or ".join(defaults)),
    )


def _in_order(values: list[Any]) -> list[Any]:
    """Numbers by size, others as they come."""
    return sorted(values) if all(type(value) in (int, float) for value in values) else values


def _is_own(key: str, records: Sequence[Record]) -> bool:
    """Whether a run has another value than rlrun's default."""
    return any(
        key in record.settings and repr(record.settings[key]) != repr(_defaults(_algorithm(record)).get(key, _ABSENT))
        for record in records
    )


def _algorithm(record: Record) -> str:
    name = record.settings.get("algo.name")
    return name if isinstance(name, str) and name in ALGORITHMS else "dqn"


@functools.cache
def _defaults(algorithm: str) -> dict[str, Any]:
    return leaves(to_mapping(RunConfig(algo=ALGORITHMS[algorithm]())))


def _text(value: Any) -> str:
    return "not set" if value is _ABSENT else shown_value(value) or "''"
