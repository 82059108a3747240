"""One setting: its default, meaning and limits, and the conversion of a plain value into it.

``setting(...)`` declares a dataclass field; ``convert`` turns what YAML or the command line gave into the field's type,
or into one line that names the setting, the bad value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a user may want to know of a setting. Limits are inclusive unless ``above`` is used."""

    doc: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    per_agent: bool = False
    unit: str = ""


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    per_agent: bool = False,
    unit: str = "",
) -> Any:
    """Declare a config field. ``per_agent``: it may differ between the members of one population."""
    meaning = Meaning(doc, low, high, above, choices, per_agent, unit)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata={"meaning": meaning})
    return dataclasses.field(default=default, metadata={"meaning": meaning})


def meaning_of(field: dataclasses.Field[Any]) -> Meaning:
    meaning = field.metadata["meaning"]
    assert isinstance(meaning, Meaning)
    return meaning


def key_of(field: dataclasses.Field[Any]) -> str:
    """The key users type: the field's name, without the underscore Python needs after ``return``."""
    return field.name.rstrip("_")


_ELSEWHERE = {
    "lr": "learning_rate",
    "batch": "batch_size",
    "steps": "total_frames",
    "total_steps": "total_frames",
    "total_timesteps": "total_frames",
    "n_envs": "num_envs",
    "n_steps": "rollout_steps",
    "ent_coef": "entropy_coef",
    "vf_coef": "critic_coef",
}
"""What other tools call our settings."""


def nearest(word: str, words: Iterable[str], settings: Iterable[str] = ()) -> str:
    """`` did you mean 'x'?`` with a leading semicolon, or nothing.

    ``settings`` are full keys of which one may be meant whose last part is typed, or is called so by another tool.
    """
    last = word.rpartition(".")[2].lower()
    same = [key for key in settings if key.rpartition(".")[2] in (last, _ELSEWHERE.get(last))]
    lower = {choice.lower(): choice for choice in words}
    close = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    found = [*same, *(lower[choice] for choice in close)]
    return f"; did you mean '{found[0]}'?" if found else ""


_LARGEST = 2**63 - 1


def number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"


def allowed(field_type: Any, meaning: Meaning) -> str:
    """What a value may be, in words: ``a number in [0, 1]``."""
    if meaning.choices:
        words_of_choices = " or ".join(
            [", ".join(meaning.choices[:-1]), meaning.choices[-1]] if len(meaning.choices) > 1 else meaning.choices
        )
        return words_of_choices + (" or a list of them" if typing.get_origin(field_type) is tuple else "")
    options = [option for option in members(field_type) if option is not types.NoneType]
    words = {bool: "true or false", int: "an integer", float: "a number", str: "text", dict: "a mapping"}
    word = " or ".join(words.get(typing.get_origin(option) or option, "a list of integers") for option in options)
    if meaning.above is not None and meaning.high is not None:
        word += f" in ({number(meaning.above)}, {number(meaning.high)}]"
    elif meaning.low is not None and meaning.high is not None:
        word += f" in [{number(meaning.low)}, {number(meaning.high)}]"
    elif meaning.low is not None:
        word += f" >= {number(meaning.low)}"
    elif meaning.above is not None:
        word += f" > {number(meaning.above)}"
    return word + (" or null" if types.NoneType in members(field_type) else "")


def members(field_type: Any) -> tuple[Any, ...]:
    """The types a field accepts: ``int | None`` -> (int, NoneType)."""
    return (
        typing.get_args(field_type)
        if typing.get_origin(field_type) in (types.UnionType, typing.Union)
        else (field_type,)
    )


def convert(key: str, value: Any, field_type: Any, meaning: Meaning) -> Any:
    """``value`` as the field's type. Raises ValueError with the line for the user."""
    for option in members(field_type):
        try:
            converted = _as(value, option)
        except (TypeError, ValueError, OverflowError):
            continue
        _check_range(key, value, converted, meaning, field_type)
        return converted
    raise ValueError(f"{key}: expected {allowed(field_type, meaning)}, got {_shown(value)}{_written_out(value)}")


def _written_out(value: Any) -> str:
    """What to write instead of ``100k`` or ``1.5M``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM])", value) if isinstance(value, str) else None
    return f"; write {float(match[1]) * {'k': 1e3, 'm': 1e6}[match[2].lower()]:.0f}" if match else ""


def _as(value: Any, option: Any) -> Any:
    if option is types.NoneType:
        if value is None:
            return None
    elif option is bool:
        if isinstance(value, bool):
            return value
    elif option is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():  # total_frames=1e6
            return int(value)
    elif option is float:
        # YAML 1.1 reads 1e-4 as text: take text that is a number written so.
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and "e" in value.lower():
            return float(value)
    elif option is str:
        if isinstance(value, str):
            return value
    elif typing.get_origin(option) is tuple:
        item_type = typing.get_args(option)[0]
        if isinstance(value, str) and item_type is str:  # logger=wandb is a list of one
            return (value,)
        if isinstance(value, (list, tuple)):
            return tuple(_as(item, item_type) for item in value)
    elif typing.get_origin(option) is dict and isinstance(value, Mapping):
        return {_as(k, str): v for k, v in value.items()}
    raise TypeError(value)


def _check_range(key: str, raw: Any, value: Any, meaning: Meaning, field_type: Any) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if meaning.choices and isinstance(item, str) and item not in meaning.choices:
            none = "; for none: []" if isinstance(value, tuple) else ""
            choices = f"{', '.join(meaning.choices)}{none}{nearest(item, meaning.choices)}"
            raise ValueError(f"{key}={item} is not known; choices: {choices}")
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{key}={raw} must be finite")
        below = (meaning.low is not None and item < meaning.low) or (
            meaning.above is not None and item <= meaning.above
        )
        if below or (meaning.high is not None and item > meaning.high):
            shown = _shown(value if isinstance(value, int) else raw)  # 1e9 as 1000000000
            raise ValueError(f"{key}={shown} is out of range; it must be {allowed(field_type, meaning)}")
        if isinstance(item, int) and item > _LARGEST:  # no array or file counts further
            raise ValueError(f"{key}={_shown(raw)} is out of range; the largest number is {_LARGEST}")


def _shown(value: Any) -> str:
    text = (
        "null"
        if value is None
        else repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."
