"""Settings whose value was not stored because it looks like a secret: they are typed again."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.config.resuming import MAY_CHANGE, leaves
from rlrun.errors import ResumeError, UsageError
from rlrun.plain import parse_yaml, printable
from rlrun.provenance import HIDDEN, is_secret_name, remember, texts_of

TIMEOUT = "env.step_timeout"
"""What may be typed besides: how long an environment may take depends on the machine, and changes nothing."""


def remember_typed(overrides: Iterable[str]) -> str:
    """Keep what is typed for secret settings out of all that is written and said from now on. Returns their keys."""
    pairs = [override.partition("=") for override in overrides]
    secret = {key: value.strip("'\"") for key, _, value in pairs if is_secret_name(key)}
    remember(secret.values())
    for value in secret.values():
        with contextlib.suppress(ValueError):  # what can't be parsed is said as it is, if at all
            remember(texts_of(parse_yaml(value.encode())))
    return ", ".join(secret)


def hidden_keys(config: RunConfig) -> list[str]:
    """The settings of a stored config whose values are not in it; those that change nothing are not missed."""
    settings = leaves(to_mapping(config)).items()
    return [key for key, value in settings if HIDDEN in str(value) and not key.startswith((*MAY_CHANGE, "env.name"))]


def retyped(config: RunConfig, typed: Mapping[str, Any], command: str) -> RunConfig:
    """The config with its hidden values from what was ``typed``.

    Raises:
        ResumeError: one is missing; says how to type it after ``command``.
    """
    hidden = hidden_keys(config)
    missing = [key for key in hidden if key not in typed]
    if missing:
        was, again = ("was", "type it") if len(missing) == 1 else ("were", "type them")
        settings = shlex.join(printable(f"{key}=VALUE") for key in missing)  # keys of a run may be anyone's
        raise ResumeError(
            f"{printable(', '.join(missing))} {was} not stored, being secret by name or value; {again} again: {command} {settings}"
        )
    return from_mapping(changed_leaves(to_mapping(config), {key: typed[key] for key in hidden})) if hidden else config


def typed_again(config: RunConfig, texts: Sequence[str], command: str, refusal: str) -> RunConfig:
    """The stored config with its hidden values, and with ``env.step_timeout``, as they are in ``texts``.

    Raises:
        ResumeError: as ``retyped``.
        UsageError: another setting is typed, which ``refusal`` is said of; one has no value, or a wrong one.
    """
    remember_typed(texts)
    typed = {key: scalar(key, value) for key, _, value in (text.partition("=") for text in texts)}
    others = typed.keys() - {*hidden_keys(config), TIMEOUT}
    if others:
        raise UsageError(f"{', '.join(sorted(others))}: {refusal}; leave it out")
    if TIMEOUT in texts:
        raise UsageError(f"'{TIMEOUT}' has no value; write {TIMEOUT}=N")
    config = retyped(config, typed, command)
    if TIMEOUT not in typed:
        return config
    return from_mapping(changed_leaves(to_mapping(config), {TIMEOUT: typed[TIMEOUT]}))


def changed_leaves(values: Mapping[str, Any], changes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with ``{"algo.gamma": 0.9, ...}`` in place of what ``leaves`` names so; a key may have a dot in it."""
    return {
        key: changed_leaves(value, changes, f"{prefix}{key}.")
        if isinstance(value, Mapping)
        else changes.get(f"{prefix}{key}", value)
        for key, value in values.items()
    }


def scalar(key: str, text: str) -> Any:
    """A value as YAML has it; numbers also in the form ``1e6``, which YAML 1.1 takes for text."""
    if "e" in text.lower() and text[:1].isdigit():
        with contextlib.suppress(ValueError):  # no number, such as a name that begins with one
            return float(text)
    try:
        return parse_yaml(text.encode())
    except ValueError as error:
        raise UsageError(f"can't parse {key}={text}: {error}") from error
