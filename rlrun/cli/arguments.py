"""What the commands' argument parsers share."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rlrun.config import RunConfig
from rlrun.config.settings import key_of
from rlrun.errors import UsageError
from rlrun.plain import printable

ALLOW_IMPORT = "env.allow_import"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, exit code 2."""

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"rlrun {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    @property
    def arguments(self) -> list[argparse.Action]:
        """What can be typed behind the command."""
        return self._actions

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_args(self, *arguments: Any) -> Any:  # type: ignore[override]  # of its overloads we use one
        """As argparse has it. Raises _Parsing if only the parser is wanted."""
        _hand_over(self)
        return super().parse_args(*arguments)

    def parse_intermixed_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        """As argparse has it. Raises _Parsing if only the parser is wanted."""
        _hand_over(self)
        return super().parse_intermixed_args(*arguments)


class _Parsing(Exception):
    """A command has come to its parser, and is to go no further."""


_only_parsers = False


def _hand_over(parser: Parser) -> None:
    if _only_parsers:
        raise _Parsing(parser)


def parser_of(command: Callable[[list[str]], int]) -> Parser:
    """The parser that a command's ``main`` makes, without running the command."""
    global _only_parsers
    _only_parsers = True
    try:
        command([])
    except _Parsing as parsing:
        parser = parsing.args[0]
        assert isinstance(parser, Parser)
        return parser
    finally:
        _only_parsers = False
    raise AssertionError("a command without a parser")


@dataclasses.dataclass(frozen=True)
class Several:
    """An argparse type: some of ``choices`` with commas between them. It tells what completes them; the command checks."""

    choices: tuple[str, ...]

    def __call__(self, text: str) -> str:
        return text


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """``--outputs DIR``, where runs are looked for."""
    parser.add_argument("--outputs", type=folder, default=Path("outputs"), metavar="DIR", help="folder of the runs")


def folder(text: str) -> Path:
    """An argparse type: a path."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a folder")
    return Path(text)


def take_imports(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``env.allow_import=MODULE,...``, which becomes the permission of this process.

    It is no setting: a config can't hold it, so no file, checkpoint or run of somebody else can give it.

    Raises:
        UsageError: it names no module, or is given twice.
    """
    typed = [text for text in arguments if text.lstrip("+").startswith(f"{ALLOW_IMPORT}=")]
    if len(typed) > 1:
        raise UsageError(f"{ALLOW_IMPORT} is given twice ({typed[0]} and {typed[1]}); write {ALLOW_IMPORT}=[A,B]")
    modules = typed[0].partition("=")[2].removeprefix("[").removesuffix("]").split(",") if typed else []
    wrong = [module for module in modules if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module)]
    if wrong:
        raise UsageError(f"{typed[0]}: {wrong[0]!r:.60} is not the name of a module; write {ALLOW_IMPORT}=MODULE")
    if modules or "rlrun.env_ids" in sys.modules:  # what was allowed before is allowed no more
        from rlrun import env_ids  # imports Gymnasium, which a shell that waits for a completion has no time for

        env_ids.allow_imports(modules)
    return [text for text in arguments if text not in typed]


def take_place(arguments: Sequence[str]) -> tuple[list[str], Path | None, bool]:
    """The arguments without ``run.dir=DIR`` and ``resume=auto``, the directory, and whether to go on with what is in it.

    They say where this command trains, not what: a run that is moved or resumed has no use for them.

    Raises:
        UsageError: given twice, without a value, or one without the other.
    """
    typed = {key: [text for text in arguments if text.startswith(f"{key}=")] for key in ("run.dir", "resume")}
    for key, texts in typed.items():
        if len(texts) > 1:
            raise UsageError(f"{key} is given twice ({texts[0]} and {texts[1]}); keep one")
    values = {key: texts[0].partition("=")[2].strip("'\"") for key, texts in typed.items() if texts}
    resume, directory = values.get("resume", "never"), values.get("run.dir")
    if resume not in ("auto", "never"):
        raise UsageError(f"resume={resume} is not known; choices: auto, never")
    if directory == "":
        raise UsageError("run.dir has no value; write run.dir=DIR")
    if directory is not None and printable(directory) != directory:  # it would be shown as another one
        raise UsageError(f"run.dir={directory!r:.60} has characters that can't be printed; choose another name")
    if resume == "auto" and directory is None:
        raise UsageError("resume=auto goes on in a directory of your choice; type run.dir=DIR as well")
    left = [text for text in arguments if text not in (*typed["run.dir"], *typed["resume"])]
    if directory is None:
        return left, None, False
    try:
        path = Path(directory).expanduser()
        return left, path.absolute() if directory.startswith("-") else path, resume == "auto"  # else like an option
    except RuntimeError:  # of a user that there is not
        raise UsageError(f"run.dir={directory!r:.60}: ~ stands for no folder; write it in full") from None


def integer(low: int, high: int) -> type[int]:
    """An argparse type: an integer from ``low`` to ``high``, also one typed as 1e6."""

    def convert(text: str) -> int:
        try:
            value = int(float(text)) if "e" in text.lower() and float(text).is_integer() else int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is out of range; it must be in [{low}, {high}]")
        return value

    return convert  # type: ignore[return-value]  # argparse takes any callable; its stubs want a type here


def root_keys() -> list[str]:
    """``seed``, ``algo``, ...: the first words of every setting."""
    return [key_of(field) for field in dataclasses.fields(RunConfig)]
