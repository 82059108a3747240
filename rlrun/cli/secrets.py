"""Settings whose value was not stored because it looks like a secret: they are typed again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.config.resuming import MAY_CHANGE, leaves
from rlrun.errors import ResumeError, UsageError
from rlrun.plain import parse_yaml, printable
from rlrun.provenance import HIDDEN, is_secret_name, remember

TIMEOUT = "env.step_timeout"
"""What may be typed besides: how long an environment may take depends on the machine, and changes nothing."""


def remember_typed(overrides: Iterable[str]) -> str:
    """Keep what is typed for secret settings out of all that is written and said from now on. Returns their keys."""
    pairs = [override.partition("=") for override in overrides]
    secret = {key: value.strip("'\"") for key, _, value in pairs if is_secret_name(key)}
    remember(secret.values())
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
    missing = [printable(key) for key in hidden if key not in typed]
    if missing:
        was, again = ("was", "type it") if len(missing) == 1 else ("were", "type them")
        settings = " ".join(f"{key}=VALUE" for key in missing)
        raise ResumeError(
            f"{', '.join(missing)} {was} not stored, being secret by name or value; {again} again: {command} {settings}"
        )
    values = to_mapping(config)
    for key in hidden:
        put(values, key, typed[key])
    return from_mapping(values) if hidden else config


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
    values = to_mapping(config)
    put(values, TIMEOUT, typed[TIMEOUT])
    return from_mapping(values)


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``algo.gamma`` in nested settings."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values[parent]
    values[last] = value


def scalar(key: str, text: str) -> Any:
    """A value as YAML has it; numbers also in the form ``1e6``, which YAML 1.1 takes for text."""
    if "e" in text.lower() and text[:1].isdigit():
        with contextlib.suppress(ValueError):  # no number, such as a name that begins with one
            return float(text)
    try:
        return parse_yaml(text.encode())
    except ValueError as error:
        raise UsageError(f"can't parse {key}={text}: {error}") from error
