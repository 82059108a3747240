"""The files of ``--config-dir``, looked at before Hydra sees them: they travel between people, and Hydra's own settings run code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlrun.errors import ResumeError, UsageError
from rlrun.plain import printable, read_yaml, reason_of

_OF_HYDRA = "sets Hydra itself, which can run code: only the command line may; leave it out"


def check_own_configs(directory: Path) -> None:
    """Raises UsageError for configs of a run, and with one line for each file that Hydra must not read."""
    resolved = directory.resolve()
    if any((folder / "run.json").exists() for folder in (resolved, *resolved.parents)):
        raise UsageError(f"--config-dir={directory} is inside a run, whose configs are data; use rlrun resume")
    problems = []
    folders = [directory]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(f"{printable(folder)}: {reason_of(error)}")
            continue
        for entry in listed:
            path = Path(entry.path)
            is_folder = os.path.isdir(path)
            if entry.name.startswith("."):  # a virtual environment, say: no default may name it
                continue
            if is_folder and entry.is_symlink():
                problems.append(f"{printable(path)} is a link to a folder; put a copy in its place")
            elif is_folder and entry.name == "hydra" and folder == directory:
                problems.append(f"{printable(path)} {_OF_HYDRA}")
            elif is_folder:
                folders.append(path)
            elif entry.name.endswith(".yaml"):
                problems += [f"{printable(path)}: {problem}" for problem in _problems_of(path)]
    if problems:
        raise UsageError("\n".join(sorted(problems)))


def _problems_of(file: Path) -> Iterator[str]:
    try:
        values = read_yaml(file)
    except ResumeError as error:
        yield str(error).removeprefix(f"{printable(file)}: ")
        return
    if not isinstance(values, dict | None):
        yield f"expected a mapping of settings, got {printable(values):.60}"
        return
    for line in _headers(file):
        if not re.fullmatch(r"#\s*@\s*\w+ +[\w-]+(\.[\w-]+)*", line):
            yield f"{printable(line):.60} is no header of Hydra; write # @package _global_"
        elif _names_hydra(line):
            yield f"{printable(line):.60} {_OF_HYDRA}"
    if values and "hydra" in values:
        yield f"hydra {_OF_HYDRA}"
    elif "_target_" in _keys(values):
        yield "_target_ names code to run; configs hold values only; leave it out"
    yield from _problems_of_defaults((values or {}).get("defaults"))


def _headers(file: Path) -> Iterator[str]:
    """The first lines, which Hydra takes for headers."""
    for line in filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())):
        if not re.match(r"#\s*@", line):
            return
        yield line


def _problems_of_defaults(defaults: Any) -> Iterator[str]:
    """What is no list is left to Hydra to refuse."""
    for item in defaults if isinstance(defaults, list) else ():
        pairs = item.items() if isinstance(item, dict) else [(item, None)]
        for group, choice in pairs:
            shown = printable(group if choice is None else f"{group}: {choice}")
            words = [str(word) for word in (group, *(choice if isinstance(choice, list) else [choice]))]
            if any(map(_names_hydra, words)):
                yield f"defaults: {shown:.60} {_OF_HYDRA}"
            elif any(map(_leads_out, words)):
                yield f"defaults: {shown:.60} leads out of the folder; name a file in it"


def _names_hydra(text: str) -> bool:
    return "hydra" in re.split(r"[\s/@.:]", text)


def _leads_out(path: str) -> bool:
    """Whether ``path`` has, or could be given by an interpolation, an element that begins with a dot, or none."""
    elements = path.split(" ")[-1].removeprefix("/").split("/")
    return any(not element or element.startswith(".") for element in elements) or ("${" in path and "." in path)


def _keys(value: Any) -> Iterator[str]:
    """All keys of nested settings."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)
    if isinstance(value, dict):
        yield from value
