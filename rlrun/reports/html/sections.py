"""What a report says in words and tables: facts, settings and their returns, runs, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrun.finding import SWEEP_LIST
from rlrun.manifest import SAME_BITS
from rlrun.plain import printable
from rlrun.reports import statistics
from rlrun.reports.html.markup import Html, join, shown_number, shown_seconds, shown_value, tag
from rlrun.reports.html.material import Material, Member, number_in
from rlrun.reports.html.study import Study

MOST_COLUMNS = 6  # of settings in the table of runs
_MOST_SHOWN = 5  # different values of one fact
_STATISTICS = ("IQM", "95% interval", "mean", "best", "finished runs")
_NUMBERS = ("seed", "return", "best", "frames", "seconds", "frames/s")
_GOOD, _BAD = ("finished",), ("failed", "interrupted")


# --- the head --------------------------------------------------------------------------------------------------------


def title_of(material: Material) -> str:
    """The name of the run or sweep, or how many runs there are."""
    members = material.members
    sweeps = {member.record.sweep for member in members}
    if len(sweeps) == 1 and (sweep := sweeps.pop()) is not None:
        return printable(sweep.name)
    return printable(members[0].record.name) if len(members) == 1 else f"{len(members)} runs"


def facts_section(material: Material) -> Html:
    """What was trained, when, where, with what, and whether it can be made again bit for bit."""
    members = material.members
    manifests, single = [member.manifest for member in members], len(members) == 1
    frames = sum(max(0, manifest["frames"]) for manifest in manifests)
    seconds = [number_in(manifest, "wall_seconds") or number_in(manifest, "seconds") for manifest in manifests]
    created, updated = (sorted(manifest[key] for manifest in manifests) for key in ("created", "updated"))
    facts = {
        "what": _several(f"{manifest['algo'].upper()} on {manifest['env_id']}" for manifest in manifests),
        "seed" if single else "runs": join(_counted(material), *_badges(members)),
        "best": _best(material),
        "when": f"{_moment(created[0])} to {_moment(updated[-1])} UTC",
        "trained": f"{frames:,} frames in {shown_seconds(sum(second for second in seconds if second))}"
        + ("" if single else " of the runs' clocks together"),
        "settings from": _several(filter(None, (_origin(manifest) for manifest in manifests))),
        "exact": _exactness(manifests),
        "computed by": _several(
            ", ".join(filter(None, (_text(manifest.get("implementation")), f"on {_text(manifest['device'])}")))
            for manifest in manifests
        ),
        "versions": _several(_versions(manifest.get("versions")) for manifest in manifests),
        "git": _several(_commit(manifest.get("git")) for manifest in manifests),
        "where": _several(_machine(manifest.get("machine")) for manifest in manifests),
    }
    pairs = [(tag("dt", None, name), tag("dd", None, fact)) for name, fact in facts.items() if fact]
    return tag("dl", {"class": "facts"}, *(tag("div", None, *pair) for pair in pairs))


def _counted(material: Material) -> str:
    """How many runs there are, or the seed of the only one."""
    if len(material.members) == 1:
        return f"{material.members[0].manifest['seed']}, "
    settings = f" of {len(material.groups)} settings" if len(material.groups) > 1 else ""
    return f"{len(material.members)}{settings}: "


def _several(texts: Iterable[str]) -> Html:
    """Each text once; with how often it is there, if there are several."""
    counts = Counter(texts)
    shown = [
        tag("span", {"class": "fact"}, text, tag("small", None, f" ({count} runs)") if len(counts) > 1 else None)
        for text, count in counts.most_common(_MOST_SHOWN)
    ]
    if len(counts) > _MOST_SHOWN:
        shown.append(tag("small", None, f"and {len(counts) - _MOST_SHOWN} more"))
    return join(*shown)


def _badges(members: Sequence[Member]) -> list[Html]:
    counts = Counter(member.status for member in members)
    return [
        join(badge(status, f"{count} {status}" if len(members) > 1 else status), " ")
        for status, count in counts.most_common()
    ]


def badge(status: str, text: str | None = None) -> Html:
    kind = "good" if status in _GOOD else "bad" if status in _BAD else "other"
    return tag("span", {"class": f"badge {kind}"}, text or status)


def _best(material: Material) -> Html | None:
    """The group with the highest IQM, for each environment."""
    lines = []
    for environment in material.environments:
        finals = {
            number: final
            for number in range(len(material.groups))
            if material.of_group(number)[0].manifest["env_id"] == environment
            and (final := material.final_of(number)) is not None
        }
        if finals:
            number = max(finals, key=lambda each: finals[each])
            where = f" with {material.groups[number].label}" if len(material.groups) > 1 else ""
            measure = material.of_group(number)[0].measure
            on = f"{environment}: " if len(material.environments) > 1 else ""
            lines.append(
                tag("span", {"class": "fact"}, f"{on}return {shown_number(finals[number])}{where} ({measure})")
            )
    return join(*lines) if lines else None


def _origin(manifest: Mapping[str, Any]) -> str:
    return ", ".join(_text(manifest.get(key)) for key in ("tuned", "experiment") if manifest.get(key))


def _exactness(manifests: Sequence[Mapping[str, Any]]) -> Html:
    """How many runs equal, bit for bit, what training them again gives; and why others do not."""
    count = Counter(_exact(manifest) for manifest in manifests)
    alone = Counter(_text(manifest.get("alone")) for manifest in manifests if manifest.get("alone") != SAME_BITS)
    reasons = Counter(_text(reason) for manifest in manifests for reason in _reasons(manifest))
    words = ", ".join(f"{number} {name}" for name, number in count.items()) if len(count) > 1 else next(iter(count))
    words += " (training again gives the same bits)" if list(count) == ["exact"] else ""
    items = [
        tag("li", None, f"{reason} ({number}×)" if len(manifests) > 1 else reason) for reason, number in reasons.items()
    ]
    items += [tag("li", None, f"bits depend on the population: {reason}") for reason in alone if reason]
    return join(words, tag("ul", None, *items) if items else None)


def _exact(manifest: Mapping[str, Any]) -> str:
    exact = manifest.get("exact")
    return "exact" if exact is True else "inexact" if exact is False else "not known yet"


def _reasons(manifest: Mapping[str, Any]) -> list[Any]:
    because = manifest.get("inexact_because")
    return because if isinstance(because, list) else []


def _versions(versions: Any) -> str:
    pairs = versions.items() if isinstance(versions, dict) else ()
    return ", ".join(f"{_text(name)} {_text(version)}" for name, version in pairs if version)


def _commit(git: Any) -> str:
    if not isinstance(git, dict) or not git.get("sha"):
        return "not in a repository"
    return f"{_text(git['sha'])}{', with changes that are not committed' if git.get('dirty') else ''}"


def _machine(machine: Any) -> str:
    if not isinstance(machine, dict):
        return ""
    cores = f"{_text(machine.get('cores'))} cores"
    return ", ".join(
        filter(None, (*(_text(machine.get(key)) for key in ("host", "processor")), cores, _text(machine.get("system"))))
    )


def _moment(timestamp: str) -> str:
    return timestamp[:19].replace("T", " ")


def _text(value: Any) -> str:
    return "" if value is None else printable(value)[:200]


# --- groups ----------------------------------------------------------------------------------------------------------


def groups_section(material: Material) -> Html:
    """Statistics over the finished runs of each group, best first within an environment."""
    several = len(material.environments) > 1
    order = sorted(range(len(material.groups)), key=lambda number: _place(material, number))
    rows = []
    for number in order:
        members = material.of_group(number)
        values = statistics.summary([member.counted for member in members if member.counted is not None])
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
        rows.append(tag("tr", None, tag("th", {"scope": "row"}, material.groups[number].label), *env, *cells))
    texts = [tag("th", {"scope": "col"}, head) for head in ("setting", *(["environment"] if several else []))]
    numbers = [tag("th", {"scope": "col", "class": "number"}, head) for head in _STATISTICS]
    return _scrolled("returns of each setting", [*texts, *numbers], rows)


def _place(material: Material, number: int) -> tuple[int, float]:
    final = material.final_of(number)
    environment = material.of_group(number)[0].manifest["env_id"]
    return material.environments.index(environment), float("inf") if final is None else -final


# --- runs ------------------------------------------------------------------------------------------------------------


def runs_section(material: Material, studies: Sequence[Study]) -> Html:
    """The table of all runs. Its heads become buttons that sort, and its rows are filtered, by the page's script."""
    settings = studies[0].settings if len(studies) == 1 and len(material.environments) == 1 else []
    settings = settings[:MOST_COLUMNS] if len(settings) <= MOST_COLUMNS else []
    keys = [each.key for each in settings]
    columns: dict[str, Callable[[Member], Html]] = {
        "run": lambda member: tag("th", {"scope": "row"}, member.record.name),
        "status": lambda member: tag("td", None, badge(member.status)),
    }
    if not keys and len(material.groups) > 1:
        columns["setting"] = lambda member: tag("td", None, material.groups[member.group].label)
    for key in keys:
        columns[key] = _setting_column(key)
    columns |= {
        "seed": lambda member: _number_cell(member.manifest["seed"], 0, grouped=False),
        "return": lambda member: _number_cell(member.final),
        "best": lambda member: _number_cell(number_in(member.manifest.get("best"), "return_mean")),
        "frames": lambda member: _number_cell(member.manifest["frames"], 0),
        "seconds": lambda member: _number_cell(number_in(member.manifest, "wall_seconds")),
        "frames/s": lambda member: _number_cell(member.manifest["frames_per_second"], 0),
        "exact": lambda member: tag("td", None, _exact(member.manifest)),
    }
    rows = [
        tag("tr", {"data-run": number}, *(cell(member) for cell in columns.values()))
        for number, member in enumerate(material.members)
    ]
    numeric = {*_NUMBERS, *(each.key for each in settings if each.numeric)}
    heads = [_sorting_head(key, keys, key in numeric) for key in columns]
    found = _scrolled("runs", heads, rows, "runs")
    if len(rows) == 1:
        return found
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
    return join(controls, tag("p", {"class": "note needs-script"}, hint), found)


def _sorting_head(key: str, settings: Sequence[str], number: bool) -> Html:
    """A setting by its last word, unless another one ends on it, too."""
    last = key.rpartition(".")[2]
    alone = [each.rpartition(".")[2] for each in settings].count(last) == 1
    text = last if key in settings and alone and last not in _NUMBERS else key
    attributes = {
        "scope": "col",
        "data-key": key,
        "class": "number" if number else None,
        "title": key if text != key else None,
    }
    return tag("th", attributes, text)


def _setting_column(key: str) -> Callable[[Member], Html]:
    def cell(member: Member) -> Html:
        value = member.record.settings.get(key)
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


# --- failures --------------------------------------------------------------------------------------------------------


def failures_section(material: Material) -> Html | None:
    """Why runs failed or could not be read; None if all is well."""
    items = []
    for member in material.members:
        reason = member.manifest.get("failure")
        if member.status in _BAD:
            text = _reason(reason) or (
                "it has been killed; rlrun resume goes on with it" if member.status == "interrupted" else ""
            )
            where = f", after {member.manifest['frames']:,} frames"
            items.append(_failure(member.record.name, badge(member.status), where, text or "no reason was recorded"))
    items += [_failure(name, badge("failed", "unreadable"), "", reason) for name, reason in material.problems.items()]
    return tag("ul", {"class": "failures"}, *items) if items else None


def _failure(name: str, mark: Html, where: str, reason: str) -> Html:
    return tag("li", None, tag("strong", None, name), " ", mark, where, tag("p", None, reason))


def _reason(value: Any) -> str:
    """Control characters become spaces here: lines of a text are not to run into each other."""
    return " ".join(str(value).split()) if isinstance(value, str) else ""


def sweep_folder(members: Sequence[Member]) -> Path | None:
    """The directory of the sweep that all of the runs are in; None if they are not in one."""
    sweeps = {member.record.sweep for member in members}
    sweep = sweeps.pop() if len(sweeps) == 1 else None
    return sweep if sweep is not None and (sweep / SWEEP_LIST).is_file() else None
