"""``rlrun export RUN``: the greedy policy, with its observation normaliser, as a file for another program."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrun.cli.arguments import Parser, Several, add_outputs, take_imports
from rlrun.cli.folders import folder_for
from rlrun.cli.output import counted, deliver_json, deliver_line, shown_path
from rlrun.cli.playing import add_run, blamed_on_config, open_to_play
from rlrun.config.settings import nearest
from rlrun.errors import UsageError

if TYPE_CHECKING:
    from rlrun.export import Exported

_SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "torch-export": ".pt2", "safetensors": ".safetensors"}
"""Format -> how its files' names end."""
_EPILOG = """examples:
  rlrun export latest
  rlrun export latest --format onnx,safetensors -o policies
  rlrun export 2026-11-24/0930 --checkpoint last -o policy.pt2

formats:
  onnx          onnxruntime and every other reader of ONNX; needs pip install 'rlrun[onnx]'
  torchscript   torch.jit.load, also from C++
  torch-export  torch.export.load, AOTInductor, ExecuTorch
  safetensors   weights and normaliser by name, with a description in the header

The file takes raw observations float32 [batch, numbers], all stacked frames, oldest first, and gives the actions as the
environment takes them, and q_values, logits or the mean. It is loaded again and held against the run's own policy on 1,000
observations before it appears under its name. docs/python.md shows how each is used."""


def main(arguments: list[str]) -> int:
    """Export a run's policy."""
    parser = Parser("export", "Write the greedy policy, with its observation normaliser, for other programs.", _EPILOG)
    add = parser.add_argument
    add_run(parser)
    add(
        "--format",
        type=Several(tuple(_SUFFIXES)),
        metavar="F",
        help=f"{', '.join(_SUFFIXES)}, or several with commas; default onnx, or what PATH ends with",
    )
    add(
        "-o",
        "--output",
        type=_output,
        metavar="PATH",
        help="a file, or a folder: one that exists, ends with /, or is for several formats; default: exports in the run",
    )
    add("--json", action="store_true", help="print one JSON list")
    add_outputs(parser)
    options = parser.parse_intermixed_args(take_imports(arguments))
    formats = _formats(options)
    run, checkpoint = open_to_play(
        options.run, options.outputs, options.checkpoint, "cpu", options.secrets, "rlrun export"
    )

    from rlrun.export import export, observations_for, require_packages
    from rlrun.policy import TrainedPolicy

    for format in formats:
        require_packages(format)
    try:
        policy = TrainedPolicy(run, checkpoint)
    except UsageError as error:
        raise blamed_on_config(run, error) from error
    places = _places(options.output, formats, run.directory)
    observations = observations_for(policy, run.config.seed)
    with folder_for(None if options.output is None else places[0].parent, run.directory, "exports"):
        done = [export(policy, format, place, observations) for format, place in zip(formats, places, strict=True)]
    if options.json:
        deliver_json([_as_plain(each, policy.checkpoint, policy.frames) for each in done])
        return 0
    for each in done:
        deliver_line(f"{shown_path(each.path)}: {each.format}, {each.bytes:,} bytes, of {policy.checkpoint}")
        deliver_line(f"  {_checked(each)}")
    return 0


def _output(text: str) -> str:
    if not text or "\0" in text:
        raise ArgumentTypeError(f"{text!r} is no name of a file or a folder")
    return text


def _is_folder(output: str) -> bool:
    return output.endswith("/") or os.path.isdir(output)


def _formats(options: Namespace) -> list[str]:
    """Raises UsageError for one that is not known, given twice, or not what the output's name ends with."""
    by_suffix = {suffix: format for format, suffix in _SUFFIXES.items()}
    output = options.output
    suffix = "" if output is None or _is_folder(output) else Path(output).suffix
    named = by_suffix.get(suffix)
    if options.format is None and suffix and named is None:
        raise UsageError(
            f"-o {output}: no format's files end with {suffix}; end it with {', '.join(by_suffix)}, or type --format"
        )
    formats = options.format.split(",") if options.format is not None else [named or "onnx"]
    for format in formats:
        if format not in _SUFFIXES:
            hint = nearest(format, _SUFFIXES) or ";"
            raise UsageError(f"--format {format}: no such format{hint} choices: {', '.join(_SUFFIXES)}")
        if formats.count(format) > 1:
            raise UsageError(f"--format {format} is given twice; keep one")
    if named is not None and formats != [named]:
        raise UsageError(f"-o {output} ends as {named} does, and --format is {','.join(formats)}; choose one")
    return formats


def _places(output: str | None, formats: list[str], run: Path) -> list[Path]:
    """Where each file goes, all in one folder. Raises UsageError."""
    if output is not None and len(formats) == 1 and not _is_folder(output):
        file = Path(output)
        if not os.path.isdir(file.parent):
            raise UsageError(f"-o {output}: there is no folder {file.parent}")
        return [file]
    folder = run / "exports" if output is None else Path(output)
    return [folder / f"policy{_SUFFIXES[format]}" for format in formats]


def _checked(each: Exported) -> str:
    start = f"checked in {each.runtime} on {counted(f'{each.observations:,}', 'observation')}: "
    if each.ties:
        return start + f"{counted(each.ties, 'choice')} between values that tie differ, all others are the same"
    return start + (
        f"actions differ by {each.difference:.1g} at most" if each.difference else "all actions are the same"
    )


def _as_plain(each: Exported, checkpoint: str, frames: int) -> dict[str, Any]:
    return {
        "format": each.format,
        "file": str(each.path),
        "bytes": each.bytes,
        "checkpoint": checkpoint,
        "frames": frames,
        "runtime": each.runtime,
        "observations": each.observations,
        "ties": each.ties,
        "difference": each.difference,
    }
