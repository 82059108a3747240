"""The ``rlrun`` command: a table of commands, one file a command, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from rlrun import __version__
from rlrun.cli.output import deliver, silence
from rlrun.errors import SIGNAL_BASE, StorageError, UsageError, in_users_terms
from rlrun.interrupts import Unwinding

COMMANDS = {
    "train": ("rlrun.cli.train", "train an agent; what rlrun does without a command"),
    "eval": ("rlrun.cli.evaluate", "play episodes with a trained agent and print its returns"),
    "video": ("rlrun.cli.video", "film episodes of a trained agent as MP4 and GIF"),
    "export": ("rlrun.cli.export", "write a trained policy for onnxruntime, PyTorch or your own code"),
    "resume": ("rlrun.cli.resume", "continue a run or a sweep that was stopped, or extend a finished one"),
    "plot": ("rlrun.cli.plot", "draw learning curves, losses and diagnostics as PNG and SVG"),
    "ls": ("rlrun.cli.ls", "list runs and sweeps, chosen and sorted"),
    "show": ("rlrun.cli.show", "show all there is to know of a run or a sweep"),
    "compare": ("rlrun.cli.compare", "what settings are worth over their seeds, and whether that is more than luck"),
    "report": ("rlrun.cli.report", "write runs as one HTML file that opens offline"),
    "diff": ("rlrun.cli.diff", "the settings in which two runs or sweeps differ"),
    "reproduce": ("rlrun.cli.reproduce", "train a run again and say whether it is the same bit for bit"),
    "rm": ("rlrun.cli.rm", "delete runs and sweeps, after asking"),
    "gc": ("rlrun.cli.gc", "free the space of what nobody needs any more, after asking"),
    "completion": ("rlrun.cli.completion", "complete commands, settings and runs on Tab, in bash, zsh and fish"),
    "configs": ("rlrun.cli.configs", "show what can be composed, and the settings of each group"),
}
"""Name -> module with ``main(arguments) -> exit code``, and one line of help. Imported only when called."""

HELP = """rlrun trains reinforcement-learning agents from the shell.

usage: rlrun [COMMAND] [KEY=VALUE ...] [OPTIONS]

commands:
{commands}
  help        this page; rlrun help COMMAND says everything about one

examples:
  rlrun algo=dqn env=cartpole seed=1
  rlrun -m algo=dqn,ppo env=cartpole seed=1,2 total_frames=20000

options (rlrun train --help explains all):
  -m         one run for each combination of values
  -q         print the run's directory and errors only
  --cfg job  print the settings instead of training
  --json     of commands that show something: for scripts

RLRUN_DEBUG=1 shows the traceback of an error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every error is one line on stderr for each problem."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    with Unwinding() as unwinding:
        try:
            _check_folder()
            code = _dispatch(arguments)
            deliver()  # what argparse and Hydra have printed
            return code
        except (Exception, KeyboardInterrupt) as error:
            return _say_why(error, unwinding.signal)


def _say_why(error: Exception | KeyboardInterrupt, number: int | None) -> int:
    """Say what has ended the command: an error, or the signal ``number``, of which a library may have made one. The exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as in `rlrun ls | head`
        silence(sys.stdout)
    if number is not None or isinstance(error, KeyboardInterrupt):
        _say_error("interrupted", prefix="rlrun: ")
        return SIGNAL_BASE + (number or signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return 0
    if os.environ.get("RLRUN_DEBUG") == "1":
        raise error
    problem = in_users_terms(error)
    for line in str(problem).split("\n"):
        _say_error(line)
    return problem.exit_code


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if os.environ.get("_ARGCOMPLETE"):
        from rlrun.cli.completion import answer

        answer({name: line for name, (_, line) in COMMANDS.items()}, _main_of)
    if first == "help" and arguments[1:] not in ([], ["help"], ["--help"], ["-h"]):
        return _explain(arguments[1:])
    if first in ("help", "--help", "-h"):
        commands = "\n".join(f"  {name:<11} {line}" for name, (_, line) in COMMANDS.items())
        deliver(HELP.format(commands=commands) + "\n")
        return 0
    if first == "--version":
        deliver(f"rlrun {__version__}\n")
        return 0
    if first in COMMANDS:
        return _run(first, arguments[1:])
    if first in ("-q", "--quiet") and len(arguments) > 1 and arguments[1] in COMMANDS:
        return _dispatch([arguments[1], first, *arguments[2:]])
    if first.isidentifier():
        raise UsageError(_unknown_command(first))
    return _run("train", arguments)


def _run(command: str, arguments: list[str]) -> int:
    try:
        return _main_of(command)(arguments)
    except SystemExit as stop:  # argparse after --help
        return stop.code if isinstance(stop.code, int) else 0


def _main_of(command: str) -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = importlib.import_module(COMMANDS[command][0]).main
    return main


def _explain(commands: list[str]) -> int:
    """Print the manual of one command."""
    from rlrun.cli.arguments import parser_of
    from rlrun.cli.manual import manual

    if len(commands) > 1:
        raise UsageError(f"help explains one command at a time; type rlrun help {commands[0]}")
    if commands[0] not in COMMANDS:
        raise UsageError(_unknown_command(commands[0]))
    deliver(manual(commands[0], COMMANDS[commands[0]][1], parser_of(_main_of(commands[0])), COMMANDS))
    return 0


def _unknown_command(word: str) -> str:
    from rlrun.cli.arguments import root_keys

    if word in root_keys():
        return f"'{word}' has no value; write {word}=VALUE"
    starts = [name for name in COMMANDS if word.startswith(name) or name.startswith(word)]
    close = starts or difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"commands: {', '.join(COMMANDS)}, help"
    return f"unknown command '{word}'; {hint}"


def _prepare_streams() -> None:
    """A shell can start us without stdout or stderr (``>&-``): then nobody reads what goes there. And a locale that
    lacks a character must not end a run that wants to print it."""
    # A file of ours must not get the number of a closed stream: whatever a C library prints would go into it.
    with contextlib.suppress(OSError):  # too many open files: whatever comes next will say so
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 open for good
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise StorageError("the current folder does not exist any more; cd to one that does") from error


def _say_error(line: str, prefix: str = "rlrun: error: ") -> None:
    """One line on stderr, whatever is in it; lost if nobody can read it any more."""
    from rlrun.provenance import clean

    shown = "".join(letter if letter.isprintable() else " " for letter in clean(line))
    try:
        print(f"{prefix}{shown}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)
