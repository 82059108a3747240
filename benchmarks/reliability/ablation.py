"""Every item of a saved state, left out or changed: the resumed run must then be refused, or not be the uninterrupted one.

If it is the same all the same, either the item need not be saved or the comparison is blind. ``USELESS`` lists what changes
nothing here, and why it is saved; the values that an environment has from its constructor anyway are found by looking.
"""

from __future__ import annotations

import copy
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.cases import ABLATED
from benchmarks.reliability.contract import Case, fingerprint, rlrun, runs_in
from benchmarks.reliability.report import Row
from rlrun import envs, envstate
from rlrun.checkpoint import save
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.errors import RlrunError
from rlrun.run import Run
from rlrun.training import train

RUNS = 5000  # more than there are: every item of every state
Place = tuple[Any, ...]

USELESS = {
    r"loop\.(seconds|wall_seconds)|offsets\.timing\.jsonl": "what the clock says",
    r"loop\.best": "of the best evaluation best.ckpt itself is asked first; this is for a run that has lost it",
    r"loop\.logged": "asked at the last frame alone, where the last row may be there already",
    r"loop\.evaluation": "shown if the run is stopped before its next evaluation",
    r".*\.(has_uint32|uinteger)": "half a word that a generator keeps after it was asked for 32 bits",
    r".*_np_random\.state\.values\.[23]": "half a word that a generator keeps after it was asked for 32 bits",
    r"training\.optimizer\.largest": "None without AMSGrad",
    r"training\.means\..*\.1": "how many numbers a sum has, which is 0",
    r".*environments\.step": "named in errors, and the seed of new episodes where old ones cannot go on",
    r".*\._np_random_seed": "an environment can ask what it was seeded with",
    r".*(action_space|observation_space)": "an environment may draw from its own spaces; these do not",
    r".*\.(screen_width|screen_height|screen|clock|isopen|camera_id|camera_name|width|height|last_u)": "for drawing alone",
}


def storm(runs: int, seed: int) -> list[Row]:
    """Leave out and change at most ``runs`` items in each way, chosen by chance where there are more."""
    chance = random.Random(seed)
    rows = {"left out": Row("item of a state, left out"), "changed": Row("item of a state, changed")}
    useless: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
        for case in ABLATED:
            subject = Subject(case, Path(place, case.name))
            if subject.outcome(subject.tree) != "the same":
                raise SystemExit(f"{case.name}: the state as it was saved does not lead to the same run")
            for way, row in rows.items():
                places = list(places_of(subject.tree))
                for where in sorted(chance.sample(places, min(len(places), -(-runs // len(ABLATED)))), key=str):
                    tree = ablated(subject.tree, where, way)
                    if tree is None:
                        continue
                    outcome = subject.outcome(tree)
                    reason = subject.reason(where, way) if outcome == "the same" else ""
                    useless[reason] += 1
                    well = outcome in ("refused", "other") or reason
                    row.add(*[] if well else [f"{case.name}: {name_of(where)}: {outcome}"])
    excused = {reason: count for reason, count in useless.items() if reason}
    rows["changed"].note = "; ".join(f"{count} change nothing: {reason}" for reason, count in excused.items())
    return list(rows.values())


class Subject:
    """A run that is resumed from the middle, from its own state and from others."""

    def __init__(self, case: Case, folder: Path) -> None:
        folder.mkdir()
        ended = rlrun(case.arguments, folder)
        assert ended.code == 0, ended.err
        (self.directory,) = runs_in(folder)
        self.expected = fingerprint(self.directory)
        steps = sorted((self.directory / "checkpoints").glob("step_*.ckpt"))
        middle = steps[len(steps) // 2]
        for path in steps:
            if path > middle:
                path.unlink()
        self.path, self.header, self.tree = CheckpointFolder(self.directory / "checkpoints", 1).newest(print)
        env = envs.make(Run.open(self.directory).config.env)
        env.reset(seed=0)
        self.fresh = envstate.capture(env)
        env.close()

    def outcome(self, tree: Mapping[str, Any]) -> str:
        """What comes of a resume from another state: "refused", "other", "the same", or a bug's exception."""
        copied = self.directory.with_name("ablated")
        shutil.copytree(self.directory, copied)
        save(copied / "checkpoints" / self.path.name, self.header, dict(tree))
        try:
            outcome = train([Run.open(copied)], _Silent(), resume=True)[0]
            if outcome.status != "finished":
                return "refused"
            return "the same" if fingerprint(copied) == self.expected else "other"
        except Exception as error:
            return "refused" if isinstance(error, RlrunError) else f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(copied)

    def reason(self, where: Place, way: str) -> str:
        """Why an item may change nothing; nothing if there is no reason."""
        name = name_of(where)
        for pattern, reason in USELESS.items():
            if re.fullmatch(rf"({pattern})(\..*)?", name):
                return reason
        if "layers" in where and way == "left out":
            inside = where[where.index("layers") :]
            if _same(_at(self.fresh, inside), _at(self.tree, where)):
                return "an environment has it from its constructor"
        return ""


class _Silent:
    """A view of nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


# --- items -----------------------------------------------------------------------------------------------------------


def places_of(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all leaves of a tree; the derived arrays of a simulation are one item."""
    if isinstance(value, dict | list) and value and place[-1:] != ("arrays",):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from places_of(item, (*place, key))
    else:
        yield place


def name_of(place: Place) -> str:
    return ".".join(map(str, place))


def ablated(tree: Mapping[str, Any], place: Place, way: str) -> dict[str, Any] | None:
    """A copy of the tree without an item, or with another value there; None if it has no other value."""
    result = copy.deepcopy(dict(tree))
    parent = _at(result, place[:-1])
    if way == "left out":
        if place[-1] == "arrays":
            parent["arrays"] = {}
        else:
            del parent[place[-1]]
    else:
        other = _other(parent[place[-1]])
        if other is None:
            return None
        parent[place[-1]] = other
    return result


def _at(value: Any, place: Sequence[Any]) -> Any:
    for key in place:
        value = value[key]
    return value


def _other(value: Any) -> Any:
    """A value of the same kind, unlike this one; None for what has none."""
    match value:
        case bool():
            return not value
        case int():
            return 2 * value + 1
        case float():
            return 1.5 * value + 0.1
        case str():
            return f"{value}?"
        case np.ndarray() if value.size:
            return ~value if value.dtype == bool else (value * 1.5 + 1).astype(value.dtype)
        case dict() if value:
            return {key: _other(item) if np.size(item) else item for key, item in value.items()}
    return None


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(np.array_equal(left, right, equal_nan=isinstance(left, float)))
