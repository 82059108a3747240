"""The config groups on disk: where they are, what can be chosen, and the one line that describes each choice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import rlrun
from rlrun.errors import UsageError


def configs_directory() -> Path:
    """rlrun's own configs: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(rlrun.__file__).resolve().parent
    packed = package / "configs"
    return packed if packed.is_dir() else package.parent / "configs"


def check_is_folder(option: str, place: Path | None) -> None:
    """Raises UsageError if ``place`` is given and is no folder."""
    if place is not None and not os.path.isdir(place):
        raise UsageError(f"{option}={place}: {'not a folder' if os.path.exists(place) else 'no such folder'}")


def find_groups(directories: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Group -> choice -> its file, over all config directories; earlier directories win."""
    groups: dict[str, dict[str, Path]] = {}
    for directory in directories:
        for file in sorted(directory.glob("*/*.yaml")):
            if file.parent.name != "hydra":
                groups.setdefault(file.parent.name, {}).setdefault(file.stem, file)
    return groups


def description(file: Path) -> str:
    """The first comment line of a config file, but for Hydra's package header."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a listing is not the place to complain: training names what is wrong with it
        return ""
    for line in text.splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.removeprefix("#").strip()
        if line and not line.startswith("#"):
            break
    return ""
