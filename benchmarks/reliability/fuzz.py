"""Wrong input by the thousand: whatever is typed, written or damaged, rlrun says one line and leaves nothing behind.

A case is a command line, an own config, a damaged run or sweep, or a damaged checkpoint, given to the command in this process.
Training is replaced by a note of the config it was to have, but for checkpoints, which are to be read. Checked of every case:
no traceback, a documented exit code, an own line on stderr for each problem and nothing else, no file left by what was refused,
none outside the output folder, and nothing that was typed and accepted without being in the config.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import yaml

from benchmarks.reliability import fuzz_inputs as inputs
from rlrun import checkpoint
from rlrun.cli import main
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.config.resuming import forbidden_changes, leaves
from rlrun.errors import UsageError
from rlrun.run import Run, runs_in
from rlrun.view import Outcome

CODES = {0, 2, 3, 4, 5, 6, 7, 8, 9}
"""What may end a command that no signal ended, but for 70: that would be a bug."""
PREFIX = "rlrun: error: "
LONGEST_LINE = 6000
SMALL = (
    "tuned=none", "total_frames=200", "algo.learning_starts=32", "algo.batch_size=8", "algo.buffer_size=64", "network.hidden=[8]",
    "evaluation.episodes=0", "checkpoint.every_frames=100",
)  # fmt: skip


def run(cases: int, seed: int) -> list[str]:
    """Try ``cases`` cases; returns a line for each that broke a promise."""
    random = Random(seed)
    kinds = (_command_line, _command_line, _own_config, _damaged_run, _damaged_sweep, _damaged_checkpoint)
    findings = []
    with _workshop(seed) as shop:
        for number in range(cases):
            kind = random.choice(kinds)
            place = shop.new_case(number)
            findings += [f"case {number} of seed {seed}: {line}" for line in kind(random, shop)]
            os.chdir(shop.folder)
            shutil.rmtree(place)
    return findings


@dataclasses.dataclass
class Answer:
    """What a command line did."""

    arguments: Sequence[str]
    code: int | None
    out: str
    err: str
    error: BaseException | None = None

    def problems(self) -> list[str]:
        """What no command line may do."""
        if self.error is not None:
            return [f"{self.arguments!r} raised {self.error!r}"]
        lines, found = self.err.splitlines(), []
        if self.code not in CODES:
            found.append(f"exit code {self.code}")
        if bool(lines) != bool(self.code):
            found.append(f"{len(lines)} lines on stderr with exit code {self.code}")
        if not all(line.startswith(PREFIX) and len(line) > len(PREFIX) for line in lines):
            found.append("something else than errors on stderr")
        if len({*lines}) < len(lines) or any(len(line) > LONGEST_LINE for line in lines):
            found.append("a line twice, or one that nobody can read")
        if any(not letter.isprintable() for line in lines for letter in line):
            found.append("what steers a terminal")
        return [f"{self.arguments!r}: {what}: {self.err[:600]!r}" for what in found]


class Workshop:
    """A folder for the cases, a small run and sweep to damage, and the configs that training was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained: list[RunConfig] = []

    def prepare(self) -> None:
        """Train the small run and a sweep of two, one of which counts as stopped."""
        os.chdir(self.folder)
        for arguments in (SMALL, ("-m", *SMALL, "seed=1,2")):
            answer = self.call(["-q", *arguments])
            assert answer.code == 0, answer
        (self.run,) = (path.parent for path in self.folder.glob("outputs/2*/*/run.json"))
        (self.sweep,) = (path.parent for path in self.folder.glob("outputs/sweeps/*/sweep.json"))
        Run.open(next(runs_in(self.sweep))).update(status="stopped")

    def new_case(self, number: int) -> Path:
        """A folder for one case, a few levels down so that ``..`` stays within it; the current one from now on."""
        place = self.folder / f"case{number}"
        work = place / "a" / "b" / "work"
        work.mkdir(parents=True)
        os.chdir(work)
        self.trained.clear()
        return place

    def call(self, arguments: Sequence[str]) -> Answer:
        out, err, error, code = io.StringIO(), io.StringIO(), None, None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except BaseException as raised:
                error = raised
        return Answer(arguments, code, out.getvalue(), err.getvalue(), error)

    @contextlib.contextmanager
    def without_training(self) -> Iterator[None]:
        """Training, sweeps and evaluations do nothing, but note the configs and mark the runs as finished."""

        def finish(runs: Sequence[Any]) -> None:
            for member in runs:
                self.trained.append(member.config)
                member.update(status="finished", frames=member.config.total_frames)

        def train(runs: Sequence[Any], view: Any, **_: Any) -> list[Outcome]:
            finish(runs)
            return [Outcome(member, "finished", None, None) for member in runs]

        def train_sweep(sweep: Any, places: Sequence[Any], *_: Any) -> None:
            finish([place.run for place in places])

        with (
            mock.patch("rlrun.training.train", train),
            mock.patch("rlrun.sweeps.sweep.train_sweep", train_sweep),
            mock.patch("rlrun.cli.resume_sweep.train_sweep", train_sweep),
        ):
            yield


@contextlib.contextmanager
def _workshop(seed: int) -> Iterator[Workshop]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="rlrun-fuzz-", ignore_cleanup_errors=True) as name:
        shop = Workshop(Path(name).resolve())
        quick = {"return_mean": 1.0, "return_std": 0.0, "return_iqm": 1.0, "return_min": 1.0, "return_max": 1.0}
        evaluated = [quick | {"episodes": 1, "returns": [1.0], "lengths": [1]}]
        environment = {
            key: value for key, value in os.environ.items() if key not in ("RLRUN_DEBUG", "DISPLAY", "WAYLAND_DISPLAY")
        }
        with (
            mock.patch("rlrun.evaluation.evaluate", lambda *_, **__: evaluated),
            mock.patch.dict(os.environ, environment, clear=True),
        ):
            try:
                shop.prepare()
                yield shop
            finally:
                os.chdir(before)


# --- what is typed ---------------------------------------------------------------------------------------------------


def _command_line(random: Random, shop: Workshop) -> list[str]:
    arguments, typed = inputs.line(random)
    with shop.without_training():
        answer = shop.call(arguments)
    found = answer.problems() + _check_files(answer, shop)
    if answer.code == 0 and any(text.partition("=")[0].lstrip("+~ ") in inputs.KEYS for text in arguments):
        found += _check_typed(answer, typed, _configs(answer, shop))
    return found


def _configs(answer: Answer, shop: Workshop) -> list[dict[str, Any]]:
    """The settings of every run that was trained; or what ``--cfg job`` printed."""
    if shop.trained:
        return [leaves(to_mapping(config)) for config in shop.trained]
    if "-p" in answer.arguments or "--cfg" not in answer.arguments:
        return []
    return [leaves(yaml.safe_load(answer.out))]


def _check_typed(answer: Answer, typed: Sequence[tuple[str, str]], configs: Sequence[dict[str, Any]]) -> list[str]:
    """Whether what was typed, and accepted, is in the config of each run."""
    found = []
    if not configs and not {"-p", "help", "--help", "--version", "ls", "configs"} & {*answer.arguments}:
        found.append(f"{answer.arguments!r} was accepted, but nothing was trained or shown")
    for key, text in typed:
        if f"{key}={text}" not in answer.arguments or key not in inputs.KEYS or text not in inputs.PLAIN:
            continue
        for config in configs:
            if not _same(config.get(key), inputs.PLAIN[text]):
                found.append(f"{answer.arguments!r}: {key}={text} became {config.get(key)!r}")
                break
    return found


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _check_files(answer: Answer, shop: Workshop, known: Sequence[Path] = ()) -> list[str]:
    """What is refused leaves nothing; what is trained is in its output folder."""
    work = Path.cwd()
    case = work.parents[2]
    places = [(work / config.outputs).resolve() for config in shop.trained]
    kept = {case / "a", case / "a" / "b", work, *known}
    left = [path for path in case.rglob("*") if path not in kept]
    if answer.code:
        return [f"{answer.arguments!r} left {sorted(map(str, left))[:3]}"] if left else []
    outside = [
        path for path in left if not any(path.is_relative_to(place) or place.is_relative_to(path) for place in places)
    ]
    return [f"{answer.arguments!r} wrote outside of its outputs: {outside[:3]}"] if outside else []


# --- what is written -------------------------------------------------------------------------------------------------


def _own_config(random: Random, shop: Workshop) -> list[str]:
    data = inputs.own_config(random)
    file = Path.cwd() / "mine" / "experiment" / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    arguments = [
        "--config-dir",
        "mine",
        "experiment=own",
        *random.choice([[], ["algo=ppo"], ["--cfg", "job"], ["-m", "seed=1,2"]]),
    ]
    with shop.without_training():
        answer = shop.call(arguments)
    found = answer.problems() + _check_files(answer, shop, [file, *file.parents])
    if answer.code == 0:
        settings = leaves(yaml.safe_load(data) or {})
        for config in _configs(answer, shop):
            for key, value in settings.items():
                swept = key == "seed" and "-m" in arguments
                if (
                    not swept
                    and not key.startswith(("hydra", "defaults", "env.kwargs"))
                    and not _accepted(config, key, value)
                ):
                    found.append(f"{data!r}: {key}={value!r} became {config.get(key)!r}")
    return [f"{line} with own.yaml {data!r:.500}" for line in found]


def _accepted(config: dict[str, Any], key: str, value: Any) -> bool:
    """Whether the config holds a value of a file: numbers may be text there, and text may be an interpolation."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return key in config and (config[key] == value or config[key] == float(value))
        return key in config and ("${" in value or config[key] == value)
    return key in config and _same(config[key], value)


# --- what is damaged -------------------------------------------------------------------------------------------------


def _damaged_run(random: Random, shop: Workshop) -> list[str]:
    run = Path.cwd() / "outputs" / "2026-01-01" / shop.run.name
    shutil.copytree(shop.run, run)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.suffix != ".ckpt")
    file = random.choice([*files, run / "run.json", run / "config.yaml"])
    inputs.damage_file(random, file)
    settings = random.choice(
        [
            [],
            ["total_frames=300"],
            ["total_frames=300", "device=cpu"],
            ["stop.episodes=5"],
            ["total_frames=300", "--require-exact"],
        ]
    )
    arguments = random.choice(
        [
            ["ls"],
            ["ls", "--json"],
            ["eval", "latest"],
            ["eval", str(run)],
            ["resume", "latest", *settings],
            ["resume", str(run), *settings],
        ]
    )
    before, planned = _contents(run), _planned(run)
    with contextlib.nullcontext() if random.random() < 0.5 else shop.without_training():
        answer = shop.call(arguments)
    found = answer.problems()
    if answer.code != 0 and arguments[0] != "ls" and (changed := _changes(before, _contents(run))):
        found.append(f"{arguments!r} ended with {answer.code} and changed {changed}: {answer.err!r}")
    if answer.code == 0 and arguments[0] == "eval" and planned and forbidden_changes(_planned(shop.run) or {}, planned):
        found.append(f"{arguments!r} took a config that the checkpoint is not of")
    return [f"{line} with {file.name} {_shown(file)}" for line in found]


def _planned(run: Path) -> dict[str, Any] | None:
    """The settings in a run's config.yaml, if they are any."""
    if not (run / "config.yaml").is_file():  # a pipe has no end
        return None
    try:
        return to_mapping(from_mapping(yaml.safe_load((run / "config.yaml").read_bytes())))
    except (OSError, yaml.YAMLError, UsageError, UnicodeDecodeError, ValueError):
        return None


def _damaged_sweep(random: Random, shop: Workshop) -> list[str]:
    sweep = Path.cwd() / "outputs" / "sweeps" / shop.sweep.name
    shutil.copytree(shop.sweep, sweep)
    files = sorted(path for path in sweep.rglob("*") if path.is_file())
    damaged = random.sample(files, random.choice([1, 1, 2]))
    for file in damaged:
        inputs.damage_file(random, file)
    settings = random.choice(
        [[], ["total_frames=300"], ["sweep.batch=1"], ["seed=1"], ["total_frames=300", "--require-exact"]]
    )
    arguments = random.choice(
        [["ls"], ["ls", "--json"], ["resume", str(sweep), *settings], ["resume", shop.sweep.name[:6], *settings]]
    )
    with shop.without_training():
        answer = shop.call(arguments)
    return [f"{line} with {[f'{file.name} {_shown(file)}' for file in damaged]}" for line in answer.problems()]


def _damaged_checkpoint(random: Random, shop: Workshop) -> list[str]:
    """One that is not whole any more, or one that somebody has written anew with something else in it."""
    run = Path.cwd() / "outputs" / "2026-01-01" / shop.run.name
    shutil.copytree(shop.run, run)
    newest = max(run.glob("checkpoints/step_*.ckpt"))
    original, forged, note = newest.read_bytes(), random.random() < 0.6, ""
    if forged:
        header, state = checkpoint.load(newest)
        part = random.choice(["header", "state", "state"])
        before = repr((header, state))
        header, state = (
            (inputs.damage_tree(random, header), state)
            if part == "header"
            else (header, inputs.damage_tree(random, state))
        )
        with contextlib.suppress(Exception):  # what can't be saved is no checkpoint
            checkpoint.save(newest, header, state)
        note = _difference(before, repr((header, state)))
    else:
        newest.write_bytes(inputs.damaged(random, original))
    whole = newest.read_bytes() == original
    arguments = random.choice([["eval", str(run), "--checkpoint", "last"], ["resume", str(run), "total_frames=210"]])
    answer = shop.call(arguments)
    found = answer.problems()
    if not whole and not forged and arguments[0] == "eval" and answer.code != 4:
        found.append(f"{arguments!r} took a damaged checkpoint")
    return [f"{line} {note}" for line in found]


def _difference(before: str, after: str) -> str:
    differing = (place for place, letters in enumerate(zip(before, after, strict=False)) if letters[0] != letters[1])
    start = next(differing, 0)
    return f"{before[max(0, start - 60) : start + 60]!r} -> {after[max(0, start - 60) : start + 60]!r}"


def _contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _changes(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Files that changed, but for the lock and for damaged checkpoints, which get another name."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return sorted(name for name in changed if name != "run.lock" and not name.startswith("checkpoints/"))


def _shown(file: Path) -> str:
    return repr(file.read_bytes()[:1500]) if file.is_file() and not file.is_symlink() else "gone, or no file"
