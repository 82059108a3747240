"""Shell completion of commands, options, groups, settings and runs; ``rlrun completion SHELL`` prints the script that asks for it.

argcomplete speaks with the shells; here is what it is to offer. Nothing that answers may import Hydra, torch, SciPy or matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rlrun.cli.arguments import Parser, Several, parser_of
from rlrun.cli.filters import ALIASES, FACTS, NUMBERS, SEEN
from rlrun.cli.groups import configs_directory, description, find_groups
from rlrun.cli.output import deliver
from rlrun.config import ALGORITHMS, DQNConfig, RunConfig
from rlrun.config.resuming import MAY_CHANGE, MAY_CHANGE_INEXACTLY
from rlrun.config.settings import key_of, meaning_of, members
from rlrun.finding import folders, runs_in, sweep_folders

ASKED = "_ARGCOMPLETE"
"""The variable by which a shell asks for completions."""
_EXAMPLES = """examples:
  eval "$(rlrun completion bash)"   in ~/.bashrc
  eval "$(rlrun completion zsh)"    in ~/.zshrc, behind compinit
  rlrun completion fish | source    in ~/.config/fish/config.fish"""
_SHELLS = ("bash", "zsh", "fish")
_FOR_THE_COMMAND = {
    "run.dir=": "train in this directory",
    "resume=auto": "go on in run.dir, if something was begun there",
    "env.allow_import=": "allow env.id to import this module",
}
"""What is typed like a setting and is none."""
_CHECKPOINTS = {"best": "of the best evaluation", "last": "the newest"}


def main(arguments: list[str]) -> int:
    """Print the script for a shell."""
    parser = Parser(
        "completion", "Print the script that completes rlrun's commands, settings and runs on Tab.", _EXAMPLES
    )
    parser.add_argument("shell", choices=_SHELLS, help="bash, zsh or fish")
    options = parser.parse_args(arguments)

    from argcomplete.shell_integration import shellcode

    deliver(shellcode(["rlrun"], True, options.shell))
    return 0


def answer(commands: Mapping[str, str], main_of: Callable[[str], Callable[[list[str]], int]]) -> None:
    """Give a shell what it asked for in the environment, and end the process. ``commands``: name -> line of help."""
    from argcomplete import autocomplete
    from argcomplete.completers import SuppressCompleter
    from argcomplete.lexers import split_line

    line, point = os.environ.get("COMP_LINE", ""), int(os.environ.get("COMP_POINT", "0"))
    words = split_line(line, point)[3][1:]
    quiet = words[:1] in (["-q"], ["--quiet"])  # it may come before the command
    words = words[1:] if quiet else words
    command = words[0] if words and words[0] in commands else "train"
    if words[:1] == ["help"]:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("command", choices=[*commands])
        words = words[:1]
    else:
        parser = parser_of(main_of(command))
        _attach(parser, words, commands if not words else {})
    if words and words[0] in (*commands, "help"):
        os.environ[ASKED] = "3" if quiet else "2"  # argcomplete is to take the command for the program's name
    autocomplete(parser, always_complete_options=False, default_completer=SuppressCompleter(), exclude=_refused(parser))


def _refused(parser: argparse.ArgumentParser) -> list[str]:
    """Options that are there to say why they are not."""
    actions = parser.arguments if isinstance(parser, Parser) else []
    return [name for action in actions if str(action.help).startswith("refused") for name in action.option_strings]


def _attach(parser: Parser, words: Sequence[str], commands: Mapping[str, str]) -> None:
    """Give a parser's arguments what completes them."""
    for action in parser.arguments:
        if action.metavar in ("DIR", "PATH") or action.type is Path:
            continue_with: object = _files
        elif str(action.metavar).startswith(("RUN", "A", "B")) and not action.option_strings:
            continue_with = _runs
        elif action.dest == "overrides":
            continue_with = (_Changes if parser.prog == "rlrun resume" else _Overrides)(words, commands)
        elif action.dest == "filter":
            continue_with = _Filters(words, {})
        elif isinstance(action.type, Several):
            continue_with = _several(action.type.choices)
        elif action.dest == "checkpoint":
            continue_with = _choices(_CHECKPOINTS)
        elif action.metavar == "PART":
            continue_with = _choices(dict.fromkeys(str(action.help).split(", "), ""))
        else:
            continue
        action.completer = continue_with  # type: ignore[attr-defined]  # where argcomplete looks for it


def _files(prefix: str, **_: object) -> list[str]:
    from argcomplete.completers import FilesCompleter

    found: list[str] = list(FilesCompleter()(prefix))
    return found


def _choices(values: Mapping[str, str]) -> Callable[..., Mapping[str, str]]:
    def complete(prefix: str, **_: object) -> Mapping[str, str]:
        return values

    return complete


def _several(choices: Sequence[str]) -> Callable[..., list[str]]:
    """Completes the last part of ``png,sv``."""

    def complete(prefix: str, **_: object) -> list[str]:
        listed, comma = prefix.rpartition(",")[:2]
        return [f"{listed}{comma}{choice}" for choice in choices if choice not in listed.split(",")]

    return complete


def _runs(prefix: str, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    """``latest``, sweeps, and runs by themselves; members of sweeps only if one is begun. Paths, if one is begun."""
    outputs = getattr(parsed_args, "outputs", None) or Path("outputs")
    sweeps = sweep_folders(outputs)
    found = {"latest": "the newest run"} | {sweep.name: "sweep" for sweep in sweeps}
    parents = itertools.chain([outputs], folders(outputs), sweeps if prefix else [])
    for run in itertools.chain.from_iterable(map(runs_in, parents)):
        found[run.name] = run.parent.name
        if "/" in prefix:
            found[f"{run.parent.name}/{run.name}"] = ""
    if "/" in prefix:
        found |= dict.fromkeys(_files(prefix), "")
    # A shell puts what is offered on the screen and into the line: no control characters, and nothing that is an option there.
    return {name: line for name, line in found.items() if f"{name}{line}".isprintable() and not name.startswith("-")}


class _Overrides:
    """Completes ``KEY=VALUE`` by the groups on disk and the schema, given the words before."""

    def __init__(self, words: Sequence[str], commands: Mapping[str, str]) -> None:
        self._words, self._commands = words, commands
        self._typed = dict(word.partition("=")[::2] for word in words if "=" in word)

    def __call__(self, prefix: str, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
        key, equals, value = prefix.partition("=")
        own = getattr(parsed_args, "config_dir", None)
        groups = find_groups([*([own] if own else []), configs_directory()])
        if not equals:
            return {**self._commands, **self._keys(prefix, groups)}
        if key in ("run.dir", "outputs"):
            return {f"{key}={path}": "" for path in _files(value)}
        choices = self._choices(key, groups)
        listed, comma = value.rpartition(",")[:2]  # of a sweep: dqn,pp
        return {f"{key}={listed}{comma}{choice}": line for choice, line in choices.items()}

    def _keys(self, prefix: str, groups: Iterable[str]) -> dict[str, str]:
        """Groups and keys of the root; all settings once one is begun."""
        keys = {**{f"{group}=": f"choose {group}" for group in groups}, **_FOR_THE_COMMAND}
        typed = {f"{key}=" for key in self._typed}
        return {key: line for key, line in (keys | self._setting_keys(prefix)).items() if key not in typed}

    def _setting_keys(self, prefix: str) -> dict[str, str]:
        return {f"{key}=": meaning_of(field).doc for key, field, _ in self._settings() if prefix or "." not in key}

    def _choices(self, key: str, groups: Mapping[str, Mapping[str, Path]]) -> dict[str, str]:
        if key in groups:
            return {name: description(file) for name, file in groups[key].items()}
        return self._values(key)

    def _values(self, key: str) -> dict[str, str]:
        """What a setting may be, as far as that can be listed."""
        words = ["auto", "cpu", "cuda"] if key in ("device", "hardware.device") else []
        words += ["auto", "never"] if key == "resume" else []
        for name, field, hint in self._settings():
            if name == key:
                words += meaning_of(field).choices
                words += ["true", "false"] if bool in members(hint) else []
                words += ["null"] if type(None) in members(hint) else []
        return dict.fromkeys(words, "")

    def _settings(self) -> Iterator[tuple[str, dataclasses.Field[object], object]]:
        """Key, field and type of every setting of the algorithm that is chosen."""
        algorithm = ALGORITHMS.get(self._typed.get("algo", ""), DQNConfig)
        yield from _leaves(RunConfig, "", algorithm)


class _Changes(_Overrides):
    """Completes what ``rlrun resume`` takes: settings that may change."""

    def _keys(self, prefix: str, groups: Iterable[str]) -> dict[str, str]:
        may, never = (*MAY_CHANGE, *MAY_CHANGE_INEXACTLY), ("name", "outputs")
        return {
            key: line
            for key, line in super()._keys(prefix, ()).items()
            if key.startswith(may) and key[:-1] not in never
        }


class _Filters(_Overrides):
    """Completes what ``rlrun ls --filter`` takes: columns, and settings of any algorithm."""

    def _keys(self, prefix: str, groups: Iterable[str]) -> dict[str, str]:
        columns = {f"{key}{sign}": "" for key in FACTS for sign in (("<", ">") if key in NUMBERS else ("=",))}
        return columns | self._setting_keys(prefix)

    def _choices(self, key: str, groups: Mapping[str, Mapping[str, Path]]) -> dict[str, str]:
        key = key.removesuffix("!")
        words = {"status": (*SEEN, *ALIASES), "exact": ("true", "false")}.get(key, ())
        return dict.fromkeys(words, "") or super()._choices(key, groups)

    def _settings(self) -> Iterator[tuple[str, dataclasses.Field[object], object]]:
        for algorithm in ALGORITHMS.values():
            yield from _leaves(RunConfig, "", algorithm)


def _leaves(
    schema: type[typing.Any], prefix: str, algorithm: type[typing.Any]
) -> Iterator[tuple[str, dataclasses.Field[object], object]]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key, hint = prefix + key_of(field), hints[field.name]
        if "meaning" in field.metadata:
            yield key, field, hint
        else:
            yield from _leaves(algorithm if key == "algo" else hint, f"{key}.", algorithm)
