"""What the commands' argument parsers share."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import NoReturn

from rlrun.config import RunConfig
from rlrun.config.settings import key_of
from rlrun.errors import UsageError


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

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """``--outputs DIR``, where runs are looked for."""
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="folder of the runs")


def integer(low: int, high: int) -> type[int]:
    """An argparse type: an integer from ``low`` to ``high``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is out of range; it must be in [{low}, {high}]")
        return value

    return convert  # type: ignore[return-value]  # argparse takes any callable; its stubs want a type here


def root_keys() -> list[str]:
    """``seed``, ``algo``, ...: the first words of every setting."""
    return [key_of(field) for field in dataclasses.fields(RunConfig)]
