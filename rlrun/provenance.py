"""What a run records about where it came from: versions, git, machine, without the secrets of the environment."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("rlrun", "torch", "numpy", "gymnasium", "mujoco")
_SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_SHORTEST_SECRET = 6  # shorter values of such variables are words like "auto" that a config may well contain


def clean(value: Any) -> Any:
    """``value`` fit to be written where others read: no secrets from the environment, no nan, no infinity."""
    variables = os.environ.items()
    secrets = [text for name, text in variables if _SECRET_NAME.search(name) and len(text) >= _SHORTEST_SECRET]

    def cleaned(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: cleaned(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [cleaned(entry) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, str):
            return functools.reduce(lambda text, secret: text.replace(secret, "***"), secrets, item)
        return item

    return cleaned(value)


@functools.cache
def versions() -> dict[str, str | None]:
    """The versions of what a result depends on; None for a package that is not installed. Imports none of them."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


@functools.cache
def git_state() -> dict[str, Any] | None:
    """The commit of the repository we stand in, and whether tracked files differ from it; None without one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    sha, _, dirty = done.stdout.strip().partition("-")
    return {"sha": sha, "dirty": dirty == "dirty"}


@functools.cache
def machine() -> dict[str, Any]:
    """Where a run ran: the processor may change its bits."""
    processor = platform.processor()
    with contextlib.suppress(OSError):  # Linux alone has this file, and alone needs it
        models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        processor = models[0] if models else processor
    return {"host": platform.node(), "system": platform.platform(), "processor": processor, "cores": os.cpu_count()}


def differences(manifest: Mapping[str, Any]) -> list[str]:
    """Reasons why a run that continues here and now may differ from one that was never stopped."""
    then = manifest.get("machine")
    processor = then.get("processor") if isinstance(then, dict) else None
    now = {"library versions": versions(), "processor": machine()["processor"]}
    before = {"library versions": manifest.get("versions"), "processor": processor}
    return [f"other {name} than it began with" for name in now if now[name] != before[name]]
