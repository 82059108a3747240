"""``rlrun configs``: what can be composed, and every setting with its type, limits, default and meaning."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlrun.cli.arguments import Parser
from rlrun.cli.groups import check_is_folder, configs_directory, description, find_groups
from rlrun.cli.output import deliver_json, deliver_line, print_table
from rlrun.config import ALGORITHMS, RunConfig
from rlrun.config.settings import allowed, key_of, meaning_of, nearest
from rlrun.errors import UsageError

Section = tuple[str, type[Any]]
"""The prefix of a section's keys, and its dataclass."""

_EXAMPLES = """examples:
  rlrun configs
  rlrun configs ppo             every setting of PPO
  rlrun configs -cd mine        also what is in a folder of yours"""


def main(arguments: list[str]) -> int:
    """Show the config groups, or the settings of one part of the config."""
    parser = Parser("configs", "Show what can be composed; or, of one part of the config, every setting.", _EXAMPLES)
    parts = _parts()
    parser.add_argument("part", nargs="?", metavar="PART", help=", ".join(parts))
    parser.add_argument("-cd", "--config-dir", type=Path, metavar="DIR", help="a folder of your own configs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    check_is_folder("--config-dir", options.config_dir)
    if options.part is None:
        _show_groups([*([options.config_dir] if options.config_dir else []), configs_directory()], options.json)
    elif options.part in parts:
        _show_settings(parts[options.part], options.json)
    else:
        hint = nearest(options.part, parts) or ";"
        raise UsageError(f"unknown part '{options.part}'{hint} choices: {', '.join(parts)}")
    return 0


def _parts() -> dict[str, list[Section]]:
    """What can be asked for -> the sections to print."""
    algorithms: dict[str, list[Section]] = {name: [("algo.", schema)] for name, schema in ALGORITHMS.items()}
    sections: dict[str, list[Section]] = {"root": [("", RunConfig)]}
    for key, hint in typing.get_type_hints(RunConfig).items():
        if key == "algo":
            sections[key] = [section for part in algorithms.values() for section in part]
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            sections[key] = [(f"{key}.", hint)]
    return sections | algorithms


def _show_groups(directories: list[Path], as_json: bool) -> None:
    found = find_groups(directories)
    groups = {group: {choice: description(file) for choice, file in files.items()} for group, files in found.items()}
    if as_json:
        deliver_json(groups)
        return
    tuned = groups.get("tuned", {})
    for group in ("algo", "env", "network", "hardware", "experiment", *sorted(groups)):
        choices = groups.pop(group, {})
        if choices and group != "tuned":
            deliver_line(f"{group}=")
            width = max(map(len, choices))
            for choice, line in choices.items():
                deliver_line(f"  {choice:<{width}}  {line}{_tuned_note(group, choice, tuned)}")
    deliver_line()
    deliver_line(
        "rlrun configs algo (or env, network, dqn, root, ...) explains each setting; tuned=none: no tuned settings"
    )


def _tuned_note(group: str, choice: str, tuned: dict[str, str]) -> str:
    if group != "env":
        return ""
    algorithms = [algo for algo in ALGORITHMS if f"{algo}_{choice}" in tuned]
    return f" [tuned for {', '.join(algorithms)}]" if algorithms else ""


def _show_settings(sections: list[Section], as_json: bool) -> None:
    settings = [(schema, list(_settings(prefix, schema))) for prefix, schema in sections]
    if as_json:
        deliver_json({schema.__name__: rows for schema, rows in settings})
        return
    for schema, rows in settings:
        deliver_line((schema.__doc__ or "").strip())
        print_table(
            ("setting", "value", "default", "per agent", "meaning"), [_cells(row) for row in rows], deliver_line
        )
        deliver_line()


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    per_agent = "yes" if row["per_agent"] else ""
    return row["key"], row["allowed"], json.dumps(row["default"]), per_agent, row["meaning"]


def _settings(prefix: str, schema: type[Any]) -> Iterator[dict[str, Any]]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        if "meaning" not in field.metadata:
            continue  # a section of its own
        meaning = meaning_of(field)
        yield {
            "key": prefix + key_of(field),
            "allowed": allowed(hints[field.name], meaning),
            "default": getattr(schema(), field.name),
            "unit": meaning.unit,
            "per_agent": meaning.per_agent,
            "meaning": meaning.doc,
        }
