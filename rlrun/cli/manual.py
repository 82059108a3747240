"""``rlrun help COMMAND``: everything about one command, laid out like a page of man."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator

from rlrun.cli.arguments import Parser
from rlrun.errors import DIFFERENT

_NARROWEST, _WIDEST = 40, 100
_INDENT = " " * 7

EXIT_CODES = (
    (0, "done"),
    (2, "wrong usage or settings"),
    (3, "something is missing on this machine: a device, a package"),
    (4, "a checkpoint or run directory can't be used"),
    (5, "no storage or memory"),
    (6, "training diverged"),
    (7, "the environment failed"),
    (8, "the run is in use by another process"),
    (9, "a sweep has failed members"),
    (DIFFERENT, "two runs are not equal (rlrun reproduce)"),
    (70, "a bug of rlrun's; RLRUN_DEBUG=1 shows the traceback"),
    (130, "Ctrl-C (129: the terminal was closed; 143: SIGTERM)"),
)


def manual(command: str, summary: str, parser: Parser, commands: Iterable[str]) -> str:
    """The page of ``command``. ``commands``: all there are."""
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    positionals = [action for action in parser.arguments if not action.option_strings]
    options = [action for action in parser.arguments if action.option_strings]
    examples, notes = _parts_of(parser.epilog or "")
    others = ", ".join(f"rlrun help {name}" for name in commands if name != command)
    sections = [
        ("NAME", _wrapped(f"rlrun {command} - {summary}", width)),
        ("SYNOPSIS", _wrapped(usage, width, hanging="    ")),
        ("DESCRIPTION", _wrapped(parser.description or "", width)),
        ("ARGUMENTS", "\n".join(_described(positionals, parser, width))),
        ("OPTIONS", "\n".join(_described(options, parser, width))),
        ("EXAMPLES", textwrap.indent(textwrap.dedent(examples), _INDENT)),
        ("NOTES", textwrap.indent(notes, _INDENT)),
        ("EXIT STATUS", "\n".join(_wrapped(f"{code:<4} {what}", width, hanging="     ") for code, what in EXIT_CODES)),
        ("SEE ALSO", _wrapped(others, width)),
    ]
    return "\n\n".join(f"{title}\n{text}" for title, text in sections if text.strip()) + "\n"


def _parts_of(epilog: str) -> tuple[str, str]:
    """The examples of an epilog, if it begins with some, and what comes behind them."""
    title = "examples:\n"
    if not epilog.startswith(title):
        return "", epilog.strip("\n")
    examples, _, notes = epilog.removeprefix(title).partition("\n\n")
    return examples.strip("\n"), notes.strip("\n")


def _described(actions: Iterable[argparse.Action], parser: Parser, width: int) -> Iterator[str]:
    """How each is typed, and below it what it does."""
    for action in actions:
        if action.help == argparse.SUPPRESS:
            continue
        value = str(action.metavar or "") if action.nargs != 0 else ""
        if not value and action.choices and action.nargs != 0:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        names = ", ".join(action.option_strings) or value or action.dest
        typed = f"{names} {value}" if action.option_strings and value else names
        yield _wrapped(typed, width)
        yield _wrapped(str(action.help or "") % {"default": action.default, "prog": parser.prog}, width, _INDENT)


def _wrapped(text: str, width: int, more: str = "", hanging: str = "") -> str:
    first = _INDENT + more
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=first + hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )
