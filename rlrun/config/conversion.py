"""A mapping of plain values <-> ``RunConfig``, with every problem reported at once."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from rlrun.config.checks import check, name_of_id
from rlrun.config.resuming import leaves
from rlrun.config.schema import ALGORITHMS, DQNConfig, RunConfig
from rlrun.config.settings import convert, key_of, meaning_of, nearest
from rlrun.errors import UsageError
from rlrun.plain import printable


def from_mapping(values: Mapping[str, Any]) -> RunConfig:
    """The frozen config of plain ``values``; what is missing takes its default.

    Raises:
        UsageError: one line for each unknown key, wrong type, value out of range or impossible combination.
    """
    problems: list[str] = []
    config = _build(RunConfig, values, "", problems)
    if not problems:
        problems = check(config)
    if problems:
        raise UsageError("\n".join(map(printable, problems)))
    assert isinstance(config, RunConfig)
    if not config.env.name:
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, name=name_of_id(config.env.id)))
    return config


def from_dictconfig(composed: Any) -> RunConfig:
    """The frozen config of what Hydra composed: interpolations are resolved here, once.

    Raises:
        UsageError: as ``from_mapping``, and for an interpolation that cannot be resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        values = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UsageError(f"{error.full_key} is missing; write {error.full_key}=VALUE") from error
    except (OmegaConfBaseException, RecursionError) as error:
        key = getattr(error, "full_key", None) or "config"
        raise UsageError(f"{key}: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    env = values.get("env") or {}
    if isinstance(env, dict) and "id" not in env:  # of an own file: it is to choose the environment, not a default
        raise UsageError("env.id is missing; write env.id=VALUE")
    return from_mapping({str(key): value for key, value in values.items()})


def typed_overrides(hydra: Any) -> tuple[str, ...]:
    """The overrides of a job as they were typed, from Hydra's own part of the config. Interpolations stay text."""
    from omegaconf import OmegaConf

    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return tuple(str(override).lstrip("+") for override in overrides)


def settings_of_hydra(composed: Any) -> dict[str, Any]:
    """Hydra's own part of what it composed, as ``{"job.chdir": False, ...}``. Interpolations stay text."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(composed.hydra, resolve=False)
    assert isinstance(values, dict)
    return leaves({str(key): value for key, value in values.items()})


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain values of a config dataclass, keys as users type them; ``from_mapping`` takes them back."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_mapping(value)
        elif isinstance(value, tuple):
            value = list(value)
        values[key_of(field)] = value
    return values


def signature(config: RunConfig) -> str:
    """What two runs must share to be trained in one population: every setting that is not per agent, nor of the sweep."""
    shared = _shared(config)
    del shared["sweep"]
    return json.dumps(shared, sort_keys=True)


def _shared(config: Any) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            shared[key_of(field)] = _shared(value)
        elif (
            not meaning_of(field).per_agent or value is None
        ):  # None: switched off is another computation than any number
            shared[key_of(field)] = value
    return shared


def _build(schema: type[Any], values: Any, prefix: str, problems: list[str]) -> Any:
    if not isinstance(values, Mapping):
        problems.append(f"{prefix.rstrip('.') or 'config'}: expected a mapping, got {values!r:.60}")
        return None
    hints = typing.get_type_hints(schema)
    fields = {key_of(field): field for field in dataclasses.fields(schema)}
    unknown = [prefix + str(key) for key in values if key not in fields]
    if unknown:
        siblings = [prefix + key for key in fields]
        algo = schema if prefix == "algo." else _algorithm(values)
        settings = leaves(to_mapping(RunConfig(algo=algo())))
        problems += [_unknown(key, nearest(key, siblings, settings)) for key in unknown]
    arguments: dict[str, Any] = {}
    for key, field in fields.items():
        if key not in values:
            continue
        nested = _nested_schema(prefix + key, hints[field.name], values[key], problems)
        if nested is not None:
            arguments[field.name] = _build(nested, values[key], f"{prefix}{key}.", problems)
        elif key != "algo":
            try:
                arguments[field.name] = convert(prefix + key, values[key], hints[field.name], meaning_of(field))
            except ValueError as error:
                problems.append(str(error))
    return schema(**arguments) if not problems else None


def _unknown(key: str, hint: str) -> str:
    if key == "env.allow_import":
        return f"{key} is a permission, which no file can give; take it out there, and type it on the command line"
    return f"unknown key '{key}'{hint}"


def _algorithm(values: Mapping[str, Any]) -> type[Any]:
    """The schema of ``algo`` that ``values`` choose, as far as they do."""
    algo = values.get("algo")
    return ALGORITHMS.get(str(algo.get("name")) if isinstance(algo, Mapping) else "", DQNConfig)


def _nested_schema(key: str, hint: Any, value: Any, problems: list[str]) -> type[Any] | None:
    if key == "algo":
        name = value.get("name") if isinstance(value, Mapping) else value
        if name is None:
            problems.append(f"algo.name is missing; choices: {', '.join(ALGORITHMS)}")
            return None
        if isinstance(name, str) and name in ALGORITHMS:
            return ALGORITHMS[name]
        problems.append(f"unknown algo {name!r:.60}; choices: {', '.join(ALGORITHMS)}{nearest(str(name), ALGORITHMS)}")
        return None
    return hint if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None
