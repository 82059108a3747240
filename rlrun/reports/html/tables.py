"""The tables of a report: settings and their returns, runs, and why some failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlrun.reports import statistics
from rlrun.reports.html.facts import badge, exactness
from rlrun.reports.html.markup import Html, join, shown_number, shown_value, tag
from rlrun.reports.html.material import Material, Member
from rlrun.reports.html.study import Study
from rlrun.reports.scores import MEASURES, number_in

MOST_COLUMNS = 6  # of settings in the table of runs
_STATISTICS = ("IQM", "95% interval", "mean", "best", "finished runs")
_NUMBERS = ("seed", "return", "best", "frames", "seconds", "frames/s")
_MOST_NAMES = 8  # of runs that failed for the same reason
_UNTOLD = {"failed": "no reason was recorded", "interrupted": "it has been killed; rlrun resume goes on with it"}


def groups_section(material: Material) -> Html:
    """Statistics over the finished runs of each group, best first within an environment and a measure; and what counts nowhere."""
    several = len(material.environments) > 1
    measured = len({material.measure_of(number) for number in range(len(material.groups))}) > 1
    order = sorted(range(len(material.groups)), key=lambda number: _place(material, number))
    rows = []
    for number in order:
        members = material.of_group(number)
        values = statistics.summary(material.finals_of(number))
        bounds = values["interval"]
        cells = [
            _number_cell(values["iqm"]),
            tag(
                "td", {"class": "number"}, f"[{shown_number(bounds[0])}, {shown_number(bounds[1])}]" if bounds else "-"
            ),
            _number_cell(values["mean"]),
            _number_cell(values["best"]),
            tag("td", {"class": "number"}, f"{values['count']} of {len(members)}"),
        ]
        env = [tag("td", None, members[0].manifest["env_id"])] if several else []
        of = [tag("td", None, material.measure_of(number))] if measured else []
        rows.append(tag("tr", None, tag("th", {"scope": "row"}, material.groups[number].label), *env, *of, *cells))
    heads = ["setting", *(["environment"] if several else []), *(["measure"] if measured else [])]
    texts = [tag("th", {"scope": "col"}, head) for head in heads]
    numbers = [tag("th", {"scope": "col", "class": "number"}, head) for head in _STATISTICS]
    left_out = [f"{each.record.name} is left out: {each.duplicate}" for each in material.members if each.duplicate]
    note = tag("p", {"class": "note"}, "; ".join(left_out)) if left_out else None
    return join(_scrolled("returns of each setting", [*texts, *numbers], rows), note)


def _place(material: Material, number: int) -> tuple[int, int, float]:
    """No evaluation is ranked among training episodes."""
    environment, finals = material.of_group(number)[0].manifest["env_id"], material.finals_of(number)
    measure = MEASURES.index(material.measure_of(number))
    return material.environments.index(environment), measure, -statistics.iqm(finals) if finals else float("inf")


def runs_section(material: Material, studies: Sequence[Study]) -> Html:
    """The table of all runs. Its heads become buttons that sort, and its rows are filtered, by the page's script."""
    settings = studies[0].settings if len(studies) == 1 and len(material.environments) == 1 else []
    keys = [each.key for each in settings] if len(settings) <= MOST_COLUMNS else []
    columns: dict[str, Callable[[Member], Html]] = {
        "run": lambda member: tag("th", {"scope": "row"}, member.record.name),
        "status": lambda member: tag("td", None, badge(member.status)),
    }
    if not keys and len(material.groups) > 1:
        columns["setting"] = lambda member: tag("td", {"class": "setting"}, material.groups[member.group].label)
    for key in keys:
        columns[key] = _setting_column(key)
    columns |= {
        "seed": lambda member: _number_cell(member.manifest["seed"], 0, grouped=False),
        "return": lambda member: _number_cell(member.final),
        "best": lambda member: _number_cell(number_in(member.manifest.get("best"), "return_mean")),
        "frames": lambda member: _number_cell(member.manifest["frames"], 0),
        "seconds": lambda member: _number_cell(number_in(member.manifest, "wall_seconds")),
        "frames/s": lambda member: _number_cell(member.manifest["frames_per_second"], 0),
        "exact": lambda member: tag("td", None, exactness(member.manifest)),
    }
    rows = [
        tag("tr", {"data-run": number}, *(cell(member) for cell in columns.values()))
        for number, member in enumerate(material.members)
    ]
    numeric = {*_NUMBERS, *(each.key for each in settings if each.numeric)}
    heads = [_sorting_head(key, keys, key in numeric) for key in columns]
    return join(_filter() if len(rows) > 1 else None, _scrolled("runs", heads, rows, "runs"))


def _filter() -> Html:
    controls = tag(
        "div",
        {"class": "controls needs-script"},
        tag("label", {"for": "filter"}, "Filter"),
        tag(
            "input",
            {"type": "search", "id": "filter", "placeholder": "seed=3 return>100 finished", "autocomplete": "off"},
        ),
        tag("button", {"type": "button", "id": "clear"}, "Clear"),
        tag("span", {"id": "shown", "role": "status"}),
    )
    hint = "Words, or column=value, column!=value, column<number, column>number. What is filtered is left out of the curves, too."
    return join(controls, tag("p", {"class": "note needs-script"}, hint))


def _sorting_head(key: str, settings: Sequence[str], number: bool) -> Html:
    """A setting by its last word, unless another one ends on it, too."""
    last = last_word(key)
    alone = [last_word(each) for each in settings].count(last) == 1
    text = last if key in settings and alone and last not in _NUMBERS else key
    attributes = {
        "scope": "col",
        "data-key": key,
        "class": "number" if number else None,
        "title": key if text != key else None,
    }
    return tag("th", attributes, text)


def last_word(key: str) -> str:
    """``gamma`` of ``algo.gamma``, and ``algo`` of ``algo.name``."""
    return key.removesuffix(".name").rpartition(".")[2]


def _setting_column(key: str) -> Callable[[Member], Html]:
    def cell(member: Member) -> Html:
        value = member.record.telling.get(key)
        number = value if type(value) in (int, float) else None
        return tag("td", {"class": "number" if number is not None else None, "data-value": number}, shown_value(value))

    return cell


def _number_cell(value: Any, digits: int = 1, grouped: bool = True) -> Html:
    text = shown_number(value, digits)
    shown = text if grouped else text.replace(",", "")
    return tag("td", {"class": "number", "data-value": None if text == "-" else value}, shown)


def _scrolled(label: str, heads: Sequence[Html], rows: Sequence[Html], identifier: str | None = None) -> Html:
    """A table that scrolls in a box of its own, which the keyboard can reach."""
    table = tag("table", {"id": identifier}, tag("thead", None, tag("tr", None, *heads)), tag("tbody", None, *rows))
    return tag("div", {"class": "scroll tall", "tabindex": "0", "role": "region", "aria-label": label}, table)


def failures_section(material: Material) -> Html | None:
    """Why runs failed or could not be read, runs of the same reason together; None if all is well."""
    places: dict[tuple[str, str], list[str]] = {}
    for member in material.members:
        if member.status in _UNTOLD:
            text = _reason(member.manifest.get("failure")) or _UNTOLD[member.status]
            where = f"{member.record.name} after {shown_number(member.manifest['frames'], 0)} frames"
            places.setdefault((member.status, text), []).append(where)
    for name, reason in material.problems.items():
        places.setdefault(("unreadable", reason), []).append(name)
    items = [_failure(status, reason, names) for (status, reason), names in places.items()]
    return tag("ul", {"class": "failures"}, *items) if items else None


def _failure(status: str, reason: str, names: Sequence[str]) -> Html:
    mark = badge(status, f"{len(names)} {status}" if len(names) > 1 else status)
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return tag("li", None, mark, " ", tag("strong", None, ", ".join(names[:_MOST_NAMES])), rest, tag("p", None, reason))


def _reason(value: Any) -> str:
    """Control characters become spaces here: lines of a text are not to run into each other."""
    return " ".join(str(value).split()) if isinstance(value, str) else ""
