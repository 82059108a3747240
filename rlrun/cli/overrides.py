"""The overrides of a command line, checked before Hydra sees them.

Hydra's own messages are long and stop at the first problem, and ``+key=value`` slips past any schema. So syntax, group
choices and repetitions are checked here, and every other ``key=value`` is handed on as ``++key=value``: Hydra takes it
as it is, and the typed config reports all unknown keys, types and ranges at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException

from rlrun.config.checks import NAME_RULE
from rlrun.config.settings import nearest
from rlrun.errors import UsageError

_PLACES = ("hydra.run.", "hydra.sweep.", "hydra.job.chdir", "hydra.output_subdir")
_SWEEPING = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper")


def check_overrides(texts: Sequence[str], groups: Mapping[str, Collection[str]], multirun: bool) -> list[str]:
    """The overrides to give to Hydra. ``groups`` maps each config group to its choices.

    Raises:
        UsageError: one line for each override that can't be.
    """
    parser = OverridesParser.create()
    seen: dict[str, str] = {}
    swept = False
    checked: list[str] = []
    problems: list[str] = []
    for text in texts:
        try:
            override = _parse(parser, text)
            _check_repetition(override, text, seen)
            _check_sweep(override, text, multirun)
            swept |= override.is_sweep_override()
            checked += _rewrite(override, text, groups)
        except UsageError as problem:
            problems.append(str(problem))
    if problems:
        raise UsageError("\n".join(problems))
    if multirun and not swept:
        raise UsageError(
            "-m is for settings with several values, and none has; give some, as in seed=1,2, or leave -m out"
        )
    if "env.id" in seen and "env" not in seen:
        checked.append("env=gymnasium")
    return checked


def is_multirun(texts: Sequence[str]) -> bool:
    """Whether an override asks for a sweep in Hydra's own words."""
    return "hydra.mode=MULTIRUN" in texts


def _parse(parser: OverridesParser, text: str) -> Override:
    key, equals, value = text.partition("=")
    if not text.strip():
        raise UsageError("an empty argument; remove it, or write KEY=VALUE")
    if not key.strip("+~ "):
        raise UsageError(f"bad override '{text}'; write KEY=VALUE")
    if key.startswith("~"):
        raise UsageError(f"'{key.strip('~ ')}' can't be removed; choose another value for it instead")
    if not equals:
        raise UsageError(f"'{text}' has no value; write {text}=VALUE")
    try:
        return parser.parse_override(text)
    except HydraException:
        raise UsageError(_unparsed(key.lstrip("+"), value)) from None
    except AttributeError:
        if __debug__:
            raise
        advice = "Hydra can't parse braces and functions without its asserts; leave python -O (PYTHONOPTIMIZE) out"
        raise UsageError(f"{text}: {advice}") from None


def _unparsed(key: str, value: str) -> str:
    if key in ("name", "env.name"):
        return f"{key}={value!r:.80} {NAME_RULE}"
    advice = "check its brackets, quotes and commas"
    if key == "outputs" or key.startswith("env.kwargs."):  # any text will do
        quoted = value.replace('"', '\\"')
        advice = f"quote it: '{key}=\"{quoted}\"'"
    return f"can't parse {key}={value}; {advice}"


def _check_repetition(override: Override, text: str, seen: dict[str, str]) -> None:
    key = override.key_or_group
    if key in seen:
        raise UsageError(f"{key} is given twice ({seen[key]} and {text}); keep one")
    seen[key] = text


def _check_sweep(override: Override, text: str, multirun: bool) -> None:
    if not override.is_sweep_override():
        return
    if not override.is_discrete_sweep():
        raise UsageError(f"{text}: an interval has no end of values; list some, or use range(start,stop,step)")
    if not multirun:
        key, value = override.key_or_group, text.partition("=")[2]
        instead = ""
        if re.fullmatch(r"\d{1,3}(,\d{3})+", value) and not key.startswith("network."):
            instead = f", or write {value.replace(',', '')} without a comma"
        elif "(" not in value and key.startswith(("network.hidden", "env.kwargs.", "logger")):
            instead = f", or write one list: {key}=[{value}]"
        raise UsageError(f"{text} is a sweep over several values; add -m to run them all{instead}")


def _rewrite(override: Override, text: str, groups: Mapping[str, Collection[str]]) -> list[str]:
    key = override.key_or_group
    if key.startswith(_PLACES):
        raise UsageError(f"{text}: rlrun makes its own run directories; use outputs=DIR or run.dir=DIR")
    if key.startswith(_SWEEPING) and override.value() != "rlrun":
        raise UsageError(f"{text}: rlrun runs sweeps itself; leave {key} out")
    if key.startswith(("hydra.", "hydra/")) or override.package is not None:
        return [text]
    if key.startswith("logger."):
        raise UsageError(
            f"{text}: a logger has no settings; logging.project=NAME names W&B's project, MLflow's experiment"
        )
    if key.startswith("network.hidden."):  # OmegaConf takes what follows for a place in the list
        raise UsageError(f"{text}: network.hidden is one list; write network.hidden=[64,64]")
    plain = text.lstrip("+")
    if key not in groups:
        return [f"++{plain}"]
    if key == "experiment" and override.value() is None and not override.is_sweep_override():
        return []  # none is what the defaults list says already
    known = sorted(groups[key])
    for choice in _choices(override):
        if not isinstance(choice, str):
            raise UsageError(f"{plain}: choose one of {', '.join(known)}; settings are typed {key}.NAME=VALUE")
        if choice not in groups[key]:
            hint = nearest(choice, known) or ";"
            raise UsageError(f"unknown {key} '{choice}'{hint} choices: {', '.join(known)}")
    return [plain]


def _choices(override: Override) -> Iterator[object]:
    if override.is_sweep_override():
        if override.value_type != ValueType.GLOB_CHOICE_SWEEP:  # a glob is matched against the files by Hydra
            yield from (text.strip("'\"") for text in override.sweep_string_iterator())
        return
    value = override.value()
    if isinstance(value, QuotedString):
        yield value.text
    else:
        yield value if isinstance(value, str | dict | list) else override.get_value_element_as_str()
