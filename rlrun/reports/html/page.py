"""The whole page: one file with its style, its scripts and its data inside, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from rlrun import __version__
from rlrun.provenance import clean
from rlrun.reports.html.commands import commands_section
from rlrun.reports.html.facts import facts_section, title_of
from rlrun.reports.html.lines import lines_of
from rlrun.reports.html.markup import Html, data, join, shown_number, tag
from rlrun.reports.html.material import Material
from rlrun.reports.html.settings import settings_section
from rlrun.reports.html.study import Study, chart_numbers, importance, studies_of
from rlrun.reports.html.tables import failures_section, groups_section, runs_section
from rlrun.reports.html.videos import videos_section

BEGINNING = "<!doctype html>\n<!-- rlrun report -->\n"
"""What a report begins with: such a file may be overwritten by the next one."""
_SCRIPTS = ("page.js", "charts.js", "parallel.js")


def page_of(material: Material, shown: Callable[[Path], str]) -> bytes:
    """The report as HTML. ``shown``: a path as it can be pasted into a shell."""
    title, studies, lines = title_of(material), studies_of(material), lines_of(material)
    curves = (
        _curves(material, lines["notes"]) if lines["metrics"] else tag("p", None, "No run has a row of metrics yet.")
    )
    parts = {
        "Overview": facts_section(material),
        "Failures": failures_section(material),
        "Returns": _returns(material),
        "Curves": curves,
        "Runs": runs_section(material, studies),
        "Swept settings": join(*(_study(study) for study in studies)) if studies else None,
        "Videos": videos_section(material.members),
        "Settings": settings_section([member.record for member in material.members]),
        "Commands": commands_section(material, shown),
    }
    numbers = {
        "environments": material.environments,
        "groups": [_group_numbers(material, number) for number in range(len(material.groups))],
        "runs": [{"name": member.record.name, "group": member.group} for member in material.members],
        "metrics": lines["metrics"],
        "places": lines["places"],
        "studies": [chart_numbers(study, material) for study in studies],
    }
    body = _body(title, {name: part for name, part in parts.items() if part}, data("data", clean(numbers)))
    return f"{BEGINNING}{tag('html', {'lang': 'en'}, _head(title), body)}\n".encode()


def _head(title: str) -> Html:
    return tag(
        "head",
        None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy()}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "referrer", "content": "no-referrer"}),
        tag("title", None, f"{title} - rlrun"),
        tag("style", None, Html(_file("report.css"))),
    )


def _body(title: str, parts: Mapping[str, Html], numbers: Html) -> Html:
    written = f"Written by rlrun {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Opens without a network."
    return tag(
        "body",
        None,
        tag("a", {"class": "skip", "href": "#Overview"}, "Skip to the report"),
        _header(title, list(parts)),
        tag("main", None, *(_section(name, part) for name, part in parts.items())),
        tag("footer", {"class": "note"}, written),
        numbers,
        *(tag("script", None, script) for script in _scripts()),
    )


def policy() -> str:
    """A content security policy: exactly these scripts, which may not compile text, and no address but what is in the file.

    Plotly sets styles as it draws, so those are free; without an address they can load nothing.
    """
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in _scripts()]
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
        "img-src data: blob:; media-src data:; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _scripts() -> tuple[Html, ...]:
    from plotly.offline import get_plotlyjs

    own = "\n".join(map(_file, _SCRIPTS))
    return Html(get_plotlyjs()), Html(f'"use strict";\n{own}')


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _header(title: str, names: Sequence[str]) -> Html:
    links = [tag("li", None, tag("a", {"href": f"#{_anchor(name)}"}, name)) for name in names]
    theme = tag("button", {"type": "button", "id": "theme", "class": "needs-script"}, "Dark")
    return tag(
        "header", None, tag("h1", None, title), theme, tag("nav", {"aria-label": "Sections"}, tag("ul", None, *links))
    )


def _section(name: str, part: Html) -> Html:
    return tag("section", {"id": _anchor(name), "tabindex": "-1"}, tag("h2", None, name), part)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _group_numbers(material: Material, number: int) -> dict[str, object]:
    environment = material.of_group(number)[0].manifest["env_id"]
    return {
        "label": material.groups[number].label,
        "environment": material.environments.index(environment),
        "final": material.ranked_of(number),
    }


def _returns(material: Material) -> Html | None:
    if len(material.members) == 1:
        return None
    measures = " or ".join(dict.fromkeys(member.measure for member in material.members))
    note = f"Returns of the {measures}, of runs that have finished; intervals are bootstrapped over them."
    return join(tag("p", {"class": "note"}, note), groups_section(material))


def _curves(material: Material, notes: Sequence[str]) -> Html:
    """What the script fills: controls, and the chart."""
    lines = (
        "Lines: IQM over the finished runs of a setting (over all if none has finished), as far as all of them have come; "
        "bands: its 95% bootstrap interval."
    )
    told = [lines, *notes] if len(material.groups) < len(material.members) else notes
    return join(
        tag("div", {"id": "curve-controls", "class": "controls needs-script"}),
        tag("div", {"id": "curves", "class": "chart", "role": "group", "aria-label": "learning curves"}),
        tag("p", {"class": "note"}, " ".join(told)) if told else None,
        tag("noscript", None, tag("p", None, "The charts need JavaScript; the tables do not.")),
    )


def _study(study: Study) -> Html:
    """Parallel coordinates, importance and a heat map; the script finds its numbers by the environment."""
    heat = len(study.settings) > 1
    title = tag("h3", None, study.environment)
    rest = f" Left out, as of another measure or as a second run of a seed: {study.others}." if study.others else ""
    measured = tag("p", {"class": "note"}, f"Returns of the {study.measure}.{rest}")
    parallel = join(
        tag("h4", None, "Parallel coordinates"),
        tag(
            "p",
            {"class": "note needs-script"},
            "Drag along an axis to keep the runs within; click on it to let them all in again.",
        ),
        tag(
            "div", {"class": "parallel scroll", "tabindex": "0", "role": "region", "aria-label": "parallel coordinates"}
        ),
        tag("p", {"class": "note told", "role": "status"}),
    )
    map_ = join(
        tag("h4", None, "Two settings"),
        tag("div", {"class": "controls heat-controls needs-script"}),
        tag("div", {"class": "chart heat", "role": "group", "aria-label": "heat map of two settings"}),
        tag("p", {"class": "note"}, "IQM of the returns of finished runs."),
    )
    return tag("div", {"class": "study"}, title, measured, parallel, _importance(study), map_ if heat else None)


def _importance(study: Study) -> Html:
    shares, together, count = importance(study)
    rows = [
        _share_row(
            swept.key,
            f" and {len(swept.together)} settings that change with it" if swept.together else "",
            share.share if share else None,
            share.chance if share else None,
        )
        for swept, share in shares
    ]
    if together:
        rows.append(_share_row("all together", "", together.share, together.chance))
        rows.append(_share_row("the rest", ": seeds", 1 - together.share, None))
    right = {"scope": "col", "class": "number"}
    heads = [
        tag("th", {"scope": "col"}, "setting"),
        *(tag("th", right, text) for text in ("share of variance", "", "by chance")),
    ]
    left = f" {study.left_out} more settings are left out." if study.left_out else ""
    single = (
        "" if together else " No setting has several finished runs, so that seeds and settings can't be told apart."
    )
    note = (
        f"Share of the variance of the final return between the values of one setting (eta squared of a one-way analysis of "
        f"variance), over {count} finished runs. A setting that does nothing would have what is under 'by chance' on average; "
        f"what several settings do only together is in no single share.{single}{left}"
    )
    table = tag("table", None, tag("thead", None, tag("tr", None, *heads)), tag("tbody", None, *rows))
    label = "importance of each setting"
    return join(
        tag("h4", None, "Importance"),
        tag("p", {"class": "note"}, note),
        tag("div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": label}, table),
    )


def _share_row(key: str, beside: str, share: float | None, chance: float | None) -> Html:
    meter = (
        tag("meter", {"min": "0", "max": "1", "value": f"{share:.4f}", "aria-hidden": "true"})
        if share is not None
        else ""
    )
    percent = f"{shown_number(100 * share, 0)} %" if share is not None else "-"
    by_chance = f"{shown_number(100 * chance, 0)} %" if chance is not None else "-"
    cells = [tag("td", {"class": "number"}, percent), tag("td", None, meter), tag("td", {"class": "number"}, by_chance)]
    return tag("tr", None, tag("th", {"scope": "row"}, tag("code", None, key), beside), *cells)
