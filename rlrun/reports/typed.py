"""What was typed for a run, as far as it may be advised to type it again: run.json may be anyone's."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from rlrun.config import ALGORITHMS, RunConfig, to_mapping
from rlrun.config.resuming import leaves

GROUPS = ("algo", "env", "hardware", "network", "tuned", "experiment")
"""The folders of rlrun's configs."""
_YOURS = ("outputs", "logger", "logging.project")
_FORM = re.compile(r"\+{0,2}([^=]+)=.*")


def typed_settings(manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """``KEY=VALUE``, ... of a run.json, and a word on what of it was left out, empty if nothing was.

    Only settings, groups and ``env.kwargs.*`` stay. Options, ``hydra.*`` and ``env.allow_import`` could make whoever
    pastes them run the code of whoever wrote the file, ``${oc.env:...}`` read what is nobody else's, and ``outputs`` and
    ``logger`` write elsewhere and send it there.
    """
    stored = manifest.get("overrides")
    listed = stored if isinstance(stored, list) else []
    settings = [text for text in listed if isinstance(text, str) and _is_setting(text)]
    count = len(listed) - len(settings)
    words = "1 word" if count == 1 else f"{count} words"
    left_out = f"left out: {words} of run.json: no plain settings, or yours to choose (outputs, logger)"
    return settings, left_out if count else ""


def _is_setting(text: str) -> bool:
    match = _FORM.fullmatch(text)
    key = match[1] if match and text.isprintable() and "${" not in text else ""
    known = key in GROUPS or key in all_settings() or key.startswith("env.kwargs.") or key == "env.kwargs"
    return known and key not in _YOURS


@functools.cache
def all_settings() -> tuple[str, ...]:
    """The key of every setting there is, of any algorithm; ``env.kwargs`` are of the environment."""
    return tuple({key: None for algo in ALGORITHMS.values() for key in leaves(to_mapping(RunConfig(algo=algo())))})
