"""The config groups on disk: where they are, what can be chosen, and the one line that describes each choice."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import rlrun
from rlrun.errors import UsageError
from rlrun.plain import printable, read_small


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
    ours = configs_directory()
    for directory in directories:
        for file in sorted(directory.glob("*/*.yaml")):
            group = file.parent.name
            if group != "hydra" and (directory == ours or _is_plain(file)):
                groups.setdefault(group, {}).setdefault(file.stem, file)
    return groups


def _is_plain(file: Path) -> bool:
    """Whether a file of a user's folder is one, not reached through a link, and its names can be shown and typed."""
    names = f"{file.parent.name}{file.stem}"
    with contextlib.suppress(OSError):
        return names.isprintable() and not file.parent.is_symlink() and stat.S_ISREG(file.lstat().st_mode)
    return False


def description(file: Path) -> str:
    """The first comment line of a config file, but for Hydra's package header."""
    try:
        text = read_small(file.resolve()).decode(errors="replace")  # an installer may link rlrun's own
    except (OSError, ValueError):  # a listing is not the place to complain: training names what is wrong with it
        return ""
    for line in text.splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return printable(line.removeprefix("#")).strip()
        if line and not line.startswith("#"):
            break
    return ""
