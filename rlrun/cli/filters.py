"""``--filter algo=ppo 'return>400'``: runs chosen by what their run.json and config.yaml say; ``--sort`` puts them in order."""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rlrun.cli.secrets import scalar
from rlrun.config.settings import nearest
from rlrun.errors import UsageError
from rlrun.manifest import STATUSES
from rlrun.reports.scores import TRAINING
from rlrun.reports.typed import all_settings

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"([^=<>!]+)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)
ALIASES = {"done": "finished"}
SEEN = (*STATUSES, "interrupted", "unreadable")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

FACTS = (
    *("status", "algo", "env", "name", "seed", "frames", "return", "best", "speed", "exact", "age", "size"),
    *("run", "device", "tuned", "experiment", "resumed", "episodes", "implementation"),
)
"""What a run can be chosen by besides its settings. Where a setting is called the same, it says the same."""
_TEXTS = ("algo", "env", "name", "run", "device", "tuned", "experiment", "implementation")
"""Those that are text, whatever YAML would take it for."""

NUMBERS = ("frames", "return", "best", "speed", "age", "size", "resumed", "episodes")
"""Those of them that are chosen by more and less rather than by what they are."""

SORTING = ("age", "return", "frames", "size", "speed", "name")
_SMALLEST_FIRST = ("age", "name")


@dataclass(frozen=True)
class Filter:
    """One ``key operator value``; ``values``: any of these will do."""

    key: str
    operator: str
    values: tuple[tuple[str, Any], ...]
    """As typed, and as YAML has it."""

    @property
    def of_settings(self) -> bool:
        """Whether it is held against config.yaml."""
        return self.key not in FACTS

    def fits(self, facts: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
        """Whether a run fits. What it does not have equals nothing, and is neither more nor less than anything."""
        found = settings.get(self.key) if self.of_settings else facts.get(self.key)
        if self.operator in ("=", "!="):
            candidates = found if self.key == "env" and isinstance(found, tuple) else (found,)
            same = any(_same(candidate, *value) for candidate in candidates for value in self.values)
            return same is (self.operator == "=")
        if isinstance(found, bool) or not isinstance(found, int | float):
            return False
        return _OPERATORS[self.operator](found, self.values[0][1])


def parse_filters(texts: Sequence[str]) -> list[Filter]:
    """Raises UsageError: one line for each that can't be read, or names what no run has."""
    filters, problems = [], []
    for text in texts:
        try:
            filters.append(_parse(text))
        except UsageError as problem:
            problems.append(str(problem))
    if problems:
        raise UsageError("\n".join(problems))
    return filters


def _parse(text: str) -> Filter:
    match = _FORM.fullmatch(text)
    if match is None or not match[3]:
        raise UsageError(f"--filter {text}: write KEY=VALUE, or 'KEY>VALUE' in quotes, as in status=done 'return>400'")
    key, sign, value = match[1].strip(), match[2], match[3].strip()
    known = all_settings()
    if key not in FACTS and key not in known and not key.startswith("env.kwargs."):
        raise UsageError(f"--filter {text}: unknown key '{key}'{_nearest(key, known)}")
    if sign in ("=", "!="):
        parts = [value] if value.startswith("[") else value.split(",")
        return Filter(key, sign, tuple((ALIASES.get(part, part), _value(key, part, text)) for part in parts))
    limit = _value(key, value, text)
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise UsageError(f"--filter {text}: {sign} compares numbers, and {value!r:.60} is none")
    return Filter(key, sign, ((value, limit),))


def _nearest(key: str, known: Sequence[str]) -> str:
    """What may have been meant: a fact, a setting, or one by its last word alone."""
    hint = nearest(key, [*FACTS, *known], known)
    ends = {known_key.rpartition(".")[2]: known_key for known_key in known}
    close = [] if hint else difflib.get_close_matches(key.lower(), ends, n=1, cutoff=0.7)
    return f"; did you mean '{ends[close[0]]}'?" if close else hint


def _value(key: str, text: str, whole: str) -> Any:
    """What a text means as the value of ``key``. Raises UsageError."""
    if key == "status":
        status = ALIASES.get(text, text)
        if status not in SEEN and not _is_pattern(status):
            known = (*SEEN, *ALIASES)
            raise UsageError(
                f"--filter {whole}: unknown status '{text}'; choices: {', '.join(known)}{nearest(text, known)}"
            )
        return status
    try:
        if key == "age":
            return seconds_of(text)
        if key == "size":
            return _bytes_of(text)
    except ValueError as error:
        raise UsageError(f"--filter {whole}: {error}") from None
    return text if key in _TEXTS else scalar(key, text)


def seconds_of(text: str) -> float:
    """``30d`` in seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text)
    if match is None:
        raise ValueError(f"{text!r:.60} is no time; write 45s, 30m, 12h, 7d or 2w")
    return float(match[1]) * _SECONDS[match[2]]


def _bytes_of(text: str) -> float:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([KMGT]?B?)", text.upper())
    if match is None:
        raise ValueError(f"{text!r:.60} is no size; write 500KB, 20MB or 1.5GB")
    return float(match[1]) * _BYTES[match[2] if match[2].endswith("B") else f"{match[2]}B"]


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and any(letter in value for letter in "*?")


def _same(found: Any, text: str, value: Any) -> bool:
    if isinstance(found, str):  # name=1 means the name "1"
        return fnmatch.fnmatchcase(found, text) if _is_pattern(text) else found == text
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return bool(found == value)


def age_of(created: Any, now: datetime | None = None) -> float | None:
    """Seconds since a timestamp of a run.json, which may hold anything; None if it is no time."""
    try:
        moment = datetime.fromisoformat(created)
        return ((now or datetime.now(UTC)) - moment).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: no text, or without a time zone
        return None


def ordered(rows: Sequence[Mapping[str, Any]], by: str, reverse: bool) -> list[Mapping[str, Any]]:
    """Rows of facts by ``by``: the best, most, newest or first come first, unless ``reverse``; who lacks it comes last."""
    key = "run" if by == "name" else by
    lacking = [row for row in rows if not _comparable(row.get(key), by)]
    rest = [row for row in rows if _comparable(row.get(key), by)]
    found = sorted(rest, key=lambda row: row[key], reverse=(by not in _SMALLEST_FIRST) is not reverse)
    if by == "return":  # no evaluation is ranked among training episodes
        found.sort(key=lambda row: bool(row["measure"] == TRAINING))
    return [*found, *lacking]


def _comparable(value: Any, by: str) -> bool:
    if by == "name":
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
