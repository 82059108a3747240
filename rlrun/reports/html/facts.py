"""The head of a report: what was trained, when, where, with what, and whether it can be made again bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrun.manifest import SAME_BITS
from rlrun.plain import printable
from rlrun.reports.html.markup import Html, join, shown_number, shown_seconds, tag
from rlrun.reports.html.material import Material, Member
from rlrun.reports.scores import number_in

BAD = ("failed", "interrupted", "unreadable")
_GOOD = ("finished",)
_MOST_SHOWN = 5  # different values of one fact


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
    frames = sum(number_in(manifest, "frames") or 0 for manifest in manifests)
    seconds = [number_in(manifest, "wall_seconds") or number_in(manifest, "seconds") for manifest in manifests]
    created, updated = (sorted(manifest[key] for manifest in manifests) for key in ("created", "updated"))
    facts = {
        "what": _several(f"{manifest['algo'].upper()} on {manifest['env_id']}" for manifest in manifests),
        "seed" if single else "runs": join(_counted(material), *_badges(members)),
        "return" if single else "best": _return(members[0]) if single else _best(material),
        "when": f"{_moment(created[0])} to {_moment(updated[-1])} UTC",
        "trained": f"{shown_number(frames, 0)} frames in {shown_seconds(sum(second for second in seconds if second))}"
        + ("" if single else " of the runs' clocks together"),
        "settings from": _several(filter(None, (_origin(manifest) for manifest in manifests))),
        "exact": _exactness_of_all(manifests),
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
        tag(
            "span",
            {"class": "fact"},
            text,
            tag("small", None, f" ({count} run{'s' if count > 1 else ''})") if len(counts) > 1 else None,
        )
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
    kind = "good" if status in _GOOD else "bad" if status in BAD else "other"
    return tag("span", {"class": f"badge {kind}"}, text or status)


def _return(member: Member) -> str | None:
    """Of the only run, whether it has finished or not, and of its best evaluation."""
    best = member.manifest.get("best")
    value = number_in(best, "return_mean")
    where = number_in(best, "frames")
    record = f"; best {shown_number(value)} at frame {shown_number(where, 0)}" if value is not None else ""
    return f"{shown_number(member.final)} ({member.measure}{record})" if member.final is not None else None


def _best(material: Material) -> Html | None:
    """The group with the highest IQM, for each environment."""
    lines = []
    for environment in material.environments:
        finals = {
            number: final
            for number in range(len(material.groups))
            if material.of_group(number)[0].manifest["env_id"] == environment
            and (final := material.ranked_of(number)) is not None
        }
        if finals:
            number = max(finals, key=lambda each: finals[each])
            where = f" with {material.groups[number].label}" if len(material.groups) > 1 else ""
            measure = material.measure_of(number)
            on = f"{environment}: " if len(material.environments) > 1 else ""
            lines.append(
                tag("span", {"class": "fact"}, f"{on}return {shown_number(finals[number])}{where} ({measure})")
            )
    return join(*lines) if lines else None


def _origin(manifest: Mapping[str, Any]) -> str:
    return ", ".join(_text(manifest.get(key)) for key in ("tuned", "experiment") if manifest.get(key))


def _exactness_of_all(manifests: Sequence[Mapping[str, Any]]) -> Html:
    """How many runs equal, bit for bit, what training them again gives; and why others do not."""
    count = Counter(exactness(manifest) for manifest in manifests)
    alone = Counter(_text(manifest.get("alone")) for manifest in manifests if manifest.get("alone") != SAME_BITS)
    reasons = Counter(_text(reason) for manifest in manifests for reason in _reasons(manifest))
    words = ", ".join(f"{number} {name}" for name, number in count.items()) if len(count) > 1 else next(iter(count))
    words += " (training again gives the same bits)" if list(count) == ["exact"] else ""
    items = [
        tag("li", None, f"{reason} ({number}×)" if len(manifests) > 1 else reason) for reason, number in reasons.items()
    ]
    items += [tag("li", None, f"bits depend on the population: {reason}") for reason in alone if reason]
    return join(words, tag("ul", None, *items) if items else None)


def exactness(manifest: Mapping[str, Any]) -> str:
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
