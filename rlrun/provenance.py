"""What a run records about where it came from: versions, git, machine, without the secrets of the environment."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("rlrun", "torch", "numpy", "gymnasium", "mujoco")
HIDDEN = "***"
"""What is written in place of a secret."""
_NO_SECRETS = "PROJECT|MODE|DIR|BASE_URL|RUN_GROUP|JOB_TYPE|TAGS|SILENT|CONSOLE|DISABLED|START_METHOD"
"""What W&B's variables end with whose values are words that a config may well contain."""
_SECRET_NAME = re.compile(
    f"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|^WANDB_(?!({_NO_SECRETS})$)|^AWS_", re.IGNORECASE
)
_SHORTEST_SECRET = 6  # shorter values of such variables are words like "auto" that a config may well contain
_FREE_KEYS = "kwargs"
"""The part of a config whose keys are the user's: there a name tells a secret."""
_USUAL_IN_GIT = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|autocrlf|eol|worktree)"
    r"|extensions\.(objectformat|worktreeconfig)|(user|advice|color|commit|pull|push|rebase|tag)\..+"
    r"|remote\..+\.(url|pushurl|fetch|prune|tagopt|gh-resolved)|submodule\.(active|.+\.(url|active))"
    r"|branch\..+|lfs\.(repositoryformatversion|.+\.(access|locksverify))"
)
"""Settings of a repository that have ``git status`` run nothing."""
_typed_secrets: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Whether an environment variable or a setting of this name, or key, holds a secret; so do all parts of such a setting."""
    return any(_SECRET_NAME.search(part) for part in name.split("."))


def remember(texts: Iterable[str]) -> None:
    """Take texts that the user typed for secrets: this process writes them nowhere."""
    _typed_secrets.update(text for text in texts if len(text) >= _SHORTEST_SECRET)


def secrets() -> list[str]:
    """What must not be written: values of the environment's secret variables, and what was typed, in all forms. The longest come first."""
    found = {text for name, text in os.environ.items() if is_secret_name(name) and len(text) >= _SHORTEST_SECRET}
    forms = {form for text in found | _typed_secrets for form in _forms(text)}
    return sorted(forms, key=lambda form: (-len(form), form))


def _forms(text: str) -> set[str]:
    """A secret as it may stand in a message: as it is, quoted by Python or JSON, on one line, and each line of several."""
    lines = [line.strip() for line in text.splitlines()]
    quoted = [repr(text)[1:-1], json.dumps(text)[1:-1]]
    return {text, *quoted, *(form for form in (" ".join(text.split()), *lines) if len(form) >= _SHORTEST_SECRET)}


def texts_of(value: Any) -> Iterator[str]:
    """The texts in a value under a secret name, or the whole number that it is; of those in lists others may be equal by chance."""
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from () if type(item) is int else texts_of(item)
    elif isinstance(value, str) or type(value) is int:
        yield str(value)


def mentions(value: Any, texts: Iterable[str]) -> bool:
    """Whether one of ``texts`` is in a tree of plain data."""
    if isinstance(value, dict | list | tuple):
        return any(mentions(item, texts) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, str | int) and any(text in str(value) for text in texts)


def clean(value: Any) -> Any:
    """``value`` fit to be written where others read: no secrets of the environment or typed ones, no nan, no infinity."""
    hidden = secrets()

    def cleaned(item: Any, free: bool = False, secret: bool = False) -> Any:
        if isinstance(item, dict):
            return {
                key: cleaned(entry, free or key == _FREE_KEYS, secret or (free and is_secret_name(str(key))))
                for key, entry in item.items()
            }
        if secret and _is_secret(item):
            return HIDDEN
        if isinstance(item, list | tuple):
            return [cleaned(entry, free) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, str):
            return functools.reduce(lambda text, secret: text.replace(secret, HIDDEN), hidden, item)
        return item

    return cleaned(value)


def _is_secret(value: Any) -> bool:
    """A text, a number as long as a secret, or a list with one, under a name that says so; ``num_keys=3`` is none."""
    if isinstance(value, dict | list | tuple):
        return any(map(_is_secret, value.values() if isinstance(value, dict) else value))
    if type(value) is int:
        return len(str(value)) >= _SHORTEST_SECRET
    return isinstance(value, str) and bool(value)


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
    """The commit of the repository we stand in, and whether tracked files differ from it; None without one.

    A repository may be anyone's, and its settings can have git run programs. Where it has others than the usual ones, git is
    not asked about files, and ``dirty`` is None.
    """
    sha = _git("rev-parse", "--verify", "HEAD")
    settings = _git("config", "--list", "--show-scope", "--name-only", "-z")
    if sha is None or settings is None:
        return None
    fields = settings.split("\0")
    own = [name for scope, name in zip(fields[::2], fields[1::2], strict=False) if scope in ("local", "worktree")]
    harmless = all(map(_USUAL_IN_GIT.fullmatch, own))
    changes = _git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all") if harmless else None
    return {"sha": sha.strip(), "dirty": None if changes is None else changes != ""}


def _git(*arguments: str) -> str | None:
    """What git says in the current folder; None if it fails. It takes no lock and runs no hook."""
    command = ["git", "--no-optional-locks", "-c", f"core.hooksPath={os.devnull}", *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=2, check=True, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


@functools.cache
def machine() -> dict[str, Any]:
    """Where a run ran: the processor may change its bits."""
    processor = platform.processor()
    with contextlib.suppress(OSError):  # Linux alone has this file, and alone needs it
        models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        processor = models[0] if models else processor
    return {"host": platform.node(), "system": platform.platform(), "processor": processor, "cores": os.cpu_count()}


def differences(manifest: Mapping[str, Any], numerics: Mapping[str, str]) -> list[str]:
    """Reasons why a run that continues here and now may differ from one that was never stopped: ``what: then -> now``.

    ``numerics``: what its bits depend on besides, as ``Hardware.numerics`` gives it.
    """
    then = {name: manifest[name] if isinstance(manifest.get(name), dict) else {} for name in ("versions", "machine")}
    before: dict[str, Any] = then["versions"] | {"processor": then["machine"].get("processor")}
    now: dict[str, Any] = {**versions(), "processor": machine()["processor"]}
    stored = manifest.get("numerics")
    if isinstance(stored, dict):  # a run that has not begun has none
        before, now = {**before, **stored}, {**now, **numerics}
    return [
        f"{name}: {before.get(name)} -> {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
