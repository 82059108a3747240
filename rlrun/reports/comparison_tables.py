"""A comparison as tables of text, and as rows for a spreadsheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlrun.plain import printable
from rlrun.reports.comparison import Comparison, Entry, Environment, Versus
from rlrun.reports.overall import Overall
from rlrun.reports.records import Record
from rlrun.reports.statistics import Array, Averages, Estimate
from rlrun.reports.tables import Table, fits, text_of
from rlrun.reports.threshold import Reached, median_of

_CURVE_POINTS = 6
_KINDS = ("iqm", "mean", "median")


def settings_table(environment: Environment, width: int) -> Table | None:
    """What tells the settings apart; None for a single one. What only some algorithms have is shown if it differs among those."""
    entries = environment.entries
    if len(entries) < 2:
        return None
    firsts = [_records(entry)[0] for entry in entries]
    keys = [key for key in entries[0].settings if _tells(key, firsts)]
    columns = [[_shown(first, key) for first in firsts] for key in keys]
    if len({first.sweep for first in firsts}) > 1:
        keys.append("sweep")
        columns.append([printable(first.sweep.name) if first.sweep else "-" for first in firsts])
    numbers = [f"#{entry.number}" for entry in entries]
    title = (
        "settings that differ"
        if len(keys) >= len(entries[0].settings)
        else "settings that differ, but for those of one algorithm alone"
    )
    table = Table(title, ["", *keys], [list(row) for row in zip(numbers, *columns, strict=True)])
    if len(keys) <= len(entries) and fits(table, width):
        return table
    return min(table.turned(), table, key=lambda one: len(text_of(one, width)))


def _tells(key: str, records: Sequence[Record]) -> bool:
    """Whether it differs. That another algorithm lacks what belongs to one is no difference of its own."""
    having = {record.telling.get("algo.name") for record in records if key in record.telling}
    peers = [r for r in records if not key.startswith("algo.") or r.telling.get("algo.name") in having]
    return len({(key in record.telling, repr(record.telling.get(key))) for record in peers}) > 1


def scores_table(entries: Sequence[Entry], width: int) -> Table:
    """IQM, mean and median with their intervals."""
    scores = [score for entry in entries for score in entry.scores]
    whose = f" of {entries[0].label}" if len(entries) == 1 else ""
    for digits in range(digits_for(scores), -1, -1):
        rows = [[f"#{entry.number}", seeds_of(entry), *_cells(entry.averages, digits)] for entry in entries]
        table = Table(f"scores{whose}, with 95% intervals", ["", "seeds", "IQM", "mean", "median"], rows)
        if fits(table, width):
            break
    return table


def versus_table(versus: Sequence[Versus]) -> Table:
    """The first one against the others."""
    first = f"#{versus[0].first}"
    rows = [[f"#{one.other}", shown_estimate(one.probability, 2), one.verdict, one.why] for one in versus]
    return Table(f"{first} against each", ["", f"P({first} scores more)", "verdict", "because"], rows)


def threshold_table(environment: Environment) -> Table | None:
    """How soon evaluations reached the threshold; None if there is none."""
    if environment.threshold is None or not environment.scored:
        return None
    rows = []
    for entry in environment.scored:
        places = reached_by(entry)
        arrived = sum(math.isfinite(place.frames) for place in places)
        frames, seconds = (median_of(values) for values in zip(*((p.frames, p.seconds) for p in places), strict=True))
        rows.append(
            [f"#{entry.number}", f"{arrived}/{len(places)}"]
            + [_shown_median(value, digits) if arrived else "never" for value, digits in ((frames, 0), (seconds, 1))]
        )
    title = (
        f"first evaluation of {environment.threshold:g} or more{environment.threshold_source}: "
        "median over seeds, those that never got there last"
    )
    return Table(title, ["", "reached", "frames", "seconds of training"], rows)


def curves_table(environment: Environment) -> Table | None:
    """IQM of the evaluation return at frames that most settings have reached; None without evaluations."""
    curves = [(entry, entry.curve) for entry in environment.scored if len(entry.curve.where)]
    if not curves:
        return None
    places = _places([curve.where for _, curve in curves])
    digits = digits_for(np.concatenate([curve.middle for _, curve in curves]))
    rows = []
    for entry, curve in curves:
        heights = np.interp(places, curve.where, curve.middle, left=np.nan, right=np.nan)
        rows.append([f"#{entry.number}", *("-" if np.isnan(height) else f"{height:,.{digits}f}" for height in heights)])
    return Table(
        "sample efficiency: IQM of the evaluation return at frames", ["", *(f"{place:,.0f}" for place in places)], rows
    )


def _places(wheres: Sequence[Array]) -> Array:
    """A few frames at which there are evaluations: up to where the shortest curve ends, where all can be compared, and beyond."""
    ordered = sorted(wheres, key=lambda where: float(where[-1]))
    shortest, longest = ordered[0], ordered[-1]
    common = shortest[shortest >= max(where[0] for where in wheres)]
    beyond = longest[longest > shortest[-1]]
    kept = [_some(common, _CURVE_POINTS - 2 if len(beyond) else _CURVE_POINTS), _some(beyond, 2)]
    return np.concatenate(kept)


def _some(places: Array, count: int) -> Array:
    """At most ``count`` of them, evenly, with the last one."""
    chosen = np.linspace(0, len(places), count + 1).round().astype(int)[1:] - 1
    kept: Array = places[np.unique(chosen[chosen >= 0])]
    return kept


def overall_tables(overall: Overall) -> list[Table]:
    """Methods over all environments."""
    names = [method.label for method in overall.methods]
    tables = []
    if overall.methods[0].averages is not None:
        rows = [[m.label, str(m.seeds), *_cells(m.averages, 3)] for m in overall.methods]
        tables.append(Table("normalised scores over all environments", ["", "seeds", "IQM", "mean", "median"], rows))
    if overall.duels:
        rows = [[one.other, shown_estimate(one.probability, 2), one.verdict, one.why] for one in overall.duels]
        title = f"{names[0]} against each, mean over environments"
        tables.append(Table(title, ["", "P(it scores more)", "verdict", "because"], rows))
    return tables


def spreadsheet(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """Columns and a row for each setting."""
    keys = list(dict.fromkeys(key for entry in comparison.entries for key in entry.settings))
    averages = [f"{kind}{end}" for kind in _KINDS for end in ("", "_low", "_high")]
    columns = ["number", "environment", "label", *keys, "metric", "seeds", "left_out", *averages]
    columns += ["first", "probability_first_scores_more", "probability_low", "probability_high", "verdict"]
    columns += ["threshold", "reached", "frames_to_threshold", "seconds_to_threshold"]
    rows = []
    for environment in comparison.environments:
        versus = {one.other: one for one in environment.versus}
        for entry in environment.entries:
            row = [entry.number, environment.env_id, entry.label, *(_cell(entry.settings.get(key)) for key in keys)]
            row += [comparison.metric, len(entry.members), len(entry.left_out), *_numbers(entry.averages)]
            one = versus.get(entry.number)
            row += [one.first, *_bounds(one.probability), one.verdict] if one else [None] * 5
            rows.append([*row, environment.threshold, *_reached_numbers(entry)])
    return columns, rows


def seeds_of(entry: Entry) -> str:
    """``5``, or ``5 of 6`` if runs were left out."""
    everyone = len(entry.members) + len(entry.left_out)
    return str(everyone) if not entry.left_out else f"{len(entry.members)} of {everyone}"


def shown_estimate(estimate: Estimate | None, digits: int) -> str:
    """``0.72 [0.40, 0.96]``."""
    if estimate is None:
        return "-"
    value = f"{estimate.value:,.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{estimate.low:,.{digits}f}, {estimate.high:,.{digits}f}]"


def digits_for(values: Sequence[float] | np.ndarray[Any, Any]) -> int:
    """Decimals worth showing of numbers of this size."""
    largest = float(np.max(np.abs(values), initial=0.0))
    return 3 if largest < 1 else 2 if largest < 100 else 1 if largest < 10_000 else 0


def reached_by(entry: Entry) -> list[Reached]:
    """Where its runs reached the threshold."""
    return [member.reached for member in entry.members if member.reached is not None]


def _records(entry: Entry) -> list[Record]:
    return [*(member.record for member in entry.members), *(record for record, _ in entry.left_out)]


def _cells(averages: Averages | None, digits: int) -> list[str]:
    return [shown_estimate(getattr(averages, kind, None), digits) for kind in _KINDS]


def _numbers(averages: Averages | None) -> list[float | None]:
    if averages is None:
        return [None] * 9
    return [number for kind in _KINDS for number in _bounds(getattr(averages, kind))]


def _bounds(estimate: Estimate) -> list[float | None]:
    return [estimate.value, estimate.low, estimate.high]


def _reached_numbers(entry: Entry) -> list[float | None]:
    places = reached_by(entry)
    if not places:
        return [None] * 3
    frames, seconds = (median_of(values) for values in zip(*((p.frames, p.seconds) for p in places), strict=True))
    return [sum(math.isfinite(place.frames) for place in places), finite(frames), finite(seconds)]


def finite(value: float | None) -> float | None:
    """None for what is no number of frames or seconds."""
    return value if value is not None and math.isfinite(value) else None


def _shown_median(value: float | None, digits: int) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "half never"


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else printable(value)


def _shown(record: Record, key: str) -> str:
    """A setting as it is typed, ``-`` for one that it does not have."""
    value = record.telling.get(key, "-")
    return "null" if value is None else printable(value)
