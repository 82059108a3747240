"""The config groups on disk: where they are, what can be chosen, and the one line that describes each choice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import rlrun


def configs_directory() -> Path:
    """rlrun's own configs: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(rlrun.__file__).resolve().parent
    packed = package / "configs"
    return packed if packed.is_dir() else package.parent / "configs"


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
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.removeprefix("#").strip()
        if line and not line.startswith("#"):
            break
    return ""
