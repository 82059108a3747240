"""The commands that make the runs of a report again, or go on with them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from rlrun.provenance import HIDDEN
from rlrun.reports.html.markup import Html, join, tag
from rlrun.reports.html.material import Material, Member
from rlrun.reports.typed import typed_settings

_UNENDED = ("stopped", "interrupted", "failed")
_MOST_RUNS = 1000
_MOST_JOBS = 10**9  # run.json may say any number


def commands_section(material: Material, shown: Callable[[Path], str]) -> Html:
    """``shown``: a path as it can be pasted into a shell."""
    blocks: list[Html] = []
    for sweep in dict.fromkeys(member.record.sweep for member in material.members):
        if sweep is None:
            continue
        members = [member for member in material.members if member.record.sweep == sweep]
        line = sweep_command(members)
        if line:
            blocks.append(_block(f"The sweep {sweep.name}, again", line))
            blocks += [tag("p", {"class": "note"}, text) for text in _missing(members)]
        if any(member.status != "finished" for member in members):
            blocks.append(_block("What is left of it", f"rlrun resume {shown(sweep)}"))
    lines = [_of_run(member, shown(member.record.directory)) for member in material.members[:_MOST_RUNS]]
    if len(lines) == 1:
        blocks += lines
    else:
        blocks.append(tag("details", None, tag("summary", None, f"Each of the {len(lines)} runs by itself"), *lines))
    if any(HIDDEN in text for member in material.members for text in overrides_of(member)):
        blocks.append(tag("p", {"class": "note"}, f"{HIDDEN} stands for a secret that was not stored: type it again."))
    if any(typed_settings(member.manifest)[1] for member in material.members):
        left_out = (
            "What else run.json says was typed is no plain setting, or yours to choose (outputs, logger), and left out."
        )
        blocks.append(tag("p", {"class": "note"}, left_out))
    return join(*blocks)


def overrides_of(member: Member) -> list[str]:
    """The settings that were typed for a run, and its seed."""
    texts, _ = typed_settings(member.manifest)
    return texts if any(text.startswith("seed=") for text in texts) else [*texts, f"seed={member.manifest['seed']}"]


def run_command(member: Member) -> str:
    return shlex.join(["rlrun", *overrides_of(member)])


def sweep_command(members: Sequence[Member]) -> str | None:
    """``rlrun -m a=1,2 b=3,4`` if the runs are all combinations of what was typed for them; None if they are not."""
    jobs = [dict(text.split("=", 1) for text in overrides_of(member) if "=" in text) for member in members]
    keys = list(jobs[0])
    if any(list(job) != keys for job in jobs):
        return None
    values = {key: list(dict.fromkeys(job[key] for job in jobs)) for key in keys}
    swept = {key: each for key, each in values.items() if len(each) > 1}
    if not all(re.fullmatch(r"[\w.+-]+", value) for each in swept.values() for value in each):
        return None  # a list of lists would have to be quoted for Hydra
    combinations = set(itertools.product(*swept.values()))
    there = [tuple(job[key] for key in swept) for job in jobs]
    if len(combinations) != len(there) or combinations != set(there):
        return None
    return shlex.join(["rlrun", "-m", *(f"{key}={','.join(each)}" for key, each in values.items())])


def _missing(members: Sequence[Member]) -> list[str]:
    """A note if the sweep had more jobs than there are runs of it here, so that its command is too short."""
    counts = [count for member in members if type(count := member.manifest.get("jobs")) is int]
    jobs = max((count for count in counts if count < _MOST_JOBS), default=0)
    if jobs <= len(members):
        return []
    return [
        f"This is not the whole sweep: of its {jobs:,} jobs {len(members):,} can be read here. The others are left out."
    ]


def _of_run(member: Member, place: str) -> Html:
    again = [run_command(member), f"rlrun reproduce {place}"]
    again += [f"rlrun resume {place}"] if member.status in _UNENDED else [f"rlrun eval {place} --episodes 100"]
    return _block(member.record.name, *again)


def _block(title: str, *lines: str) -> Html:
    rows = [tag("code", {"class": "line"}, line) for line in lines]
    return tag("div", {"class": "commands"}, tag("h3", None, title), tag("pre", {"tabindex": "0"}, *rows))
