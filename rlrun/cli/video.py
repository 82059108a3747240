"""``rlrun video RUN``: film greedy episodes of a trained agent."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import sys
from pathlib import Path

from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.cli.arguments import Parser, Several, add_outputs, integer, take_imports
from rlrun.cli.folders import folder_for
from rlrun.cli.output import counted, deliver_json, deliver_line, shown_number, shown_path, warn
from rlrun.cli.playing import add_player, blamed_on_config, open_to_play
from rlrun.errors import UsageError
from rlrun.seeding import Stream, derive

_FORMATS = ("mp4", "gif")
_EPILOG = """examples:
  rlrun video latest
  rlrun video latest --episodes 3 --seed 7 --format mp4
  rlrun video 2026-11-24/0930 --checkpoint last --max-steps 500 -o pictures

With the same --seed and --episodes these are the episodes that rlrun eval plays."""


def main(arguments: list[str]) -> int:
    """Film a run."""
    options = _parser().parse_intermixed_args(take_imports(arguments))
    formats = _formats(options.format)
    if options.o is not None and os.path.exists(options.o) and not os.path.isdir(options.o):
        raise UsageError(f"-o {options.o}: not a folder; the files in it get names of their own")
    run, checkpoint = open_to_play(
        options.run, options.outputs, options.checkpoint, options.device, options.secrets, "rlrun video"
    )

    from rlrun.video import Order, film  # imports Gymnasium

    weights = CheckpointFolder(run.checkpoints, run.config.checkpoint.keep).resolve(checkpoint)
    name = f"{weights.stem}_seed{options.seed}"
    seed = derive(options.seed, Stream.EVALUATION)
    order = Order(run.config, weights, seed, options.episodes, formats, options.fps, options.max_steps)
    if options.o is not None:
        name = f"{run.directory.resolve().name}_{name}"
    try:
        with folder_for(options.o, run.directory, "videos") as folder, _Counter() as counter:
            video = film(order, folder, name, counter.show, warn)
    except UsageError as error:
        raise blamed_on_config(run, error) from error
    assert video is not None
    if options.json:
        files = [str(file) for file in video.files]
        deliver_json(dataclasses.asdict(video) | {"files": files, "checkpoint": weights.name}, indent=None)
        return 0
    deliver_line(f"{shown_path(run.directory)}: checkpoint {weights.name}, {counted(options.episodes, 'episode')}")
    for return_, length in zip(video.returns, video.lengths, strict=True):
        cut = " (--max-steps)" if length == options.max_steps else ""
        deliver_line(f"  return {shown_number(return_, 2)} in {counted(length, 'step')}{cut}")
    for file in video.files:
        deliver_line(shown_path(file))
    return 0


def _parser() -> Parser:
    parser = Parser("video", "Film greedy episodes of a trained agent, with or without a screen.", epilog=_EPILOG)
    add_player(parser, episodes=1)
    add = parser.add_argument
    add("--format", type=Several(_FORMATS), default="mp4,gif", metavar="F", help="mp4, gif or both; default mp4,gif")
    add("--fps", type=_fps, metavar="F", help="pictures a second, one each step; default: real time, at most 60")
    add("--max-steps", type=integer(1, 10**9), metavar="N", help="cut episodes after N steps; default: as in training")
    add("-o", type=Path, metavar="DIR", help="folder of the files; default: videos in the run's directory")
    add("--json", action="store_true", help="print one JSON object")
    add_outputs(parser)
    return parser


def _formats(text: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(text.split(",")))
    if not set(wanted) <= set(_FORMATS):
        raise UsageError(f"--format {text}: choices: mp4, gif, or mp4,gif")
    return wanted


def _fps(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not (math.isfinite(value) and 1 <= value <= 240):
        raise argparse.ArgumentTypeError(f"{text} is out of range; it must be in [1, 240]")
    return value


class _Counter:
    """Pictures so far, on a terminal."""

    def __enter__(self) -> _Counter:
        self._width = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._write(" " * self._width + "\r" if self._width else "")

    def show(self, pictures: int) -> None:
        if sys.stderr.isatty():
            line = f"{pictures:,} pictures"
            self._width = max(self._width, len(line))
            self._write(f"{line}\r")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
