"""Wrong input by the thousand: whatever is typed, written or damaged, rlrun says one line and leaves nothing behind.

A case is a command line, an own config, a damaged run or sweep, or a damaged checkpoint, given to a command in this process.
Training is replaced by a note of the config it was to have, but for checkpoints, which are to be read. Checked of every case:
no traceback, a documented exit code, an own line on stderr for each problem and nothing else, no file left by what was refused,
none outside the output folder, nothing that was typed and accepted without being in the config, nothing changed by what only reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from benchmarks.reliability import fuzz_inputs as inputs
from benchmarks.reliability.fuzz_workshop import Answer, Workshop, workshop
from benchmarks.reliability.report import Row
from rlrun import checkpoint
from rlrun.config import from_mapping, to_mapping
from rlrun.config.resuming import forbidden_changes, leaves
from rlrun.errors import DIFFERENT, UsageError

RUNS = 10_000


def storm(runs: int, seed: int) -> list[Row]:
    """Try ``runs`` cases."""
    return [Row("fuzzed command lines, configs, run directories, sweeps and checkpoints", runs, run(runs, seed))]


def run(cases: int, seed: int) -> list[str]:
    """Try ``cases`` cases; returns a line for each that broke a promise."""
    random = Random(seed)
    findings = []
    with workshop() as shop:
        for number in range(cases):
            kind = random.choice(KINDS)
            place = shop.new_case(number)
            findings += [f"case {number} of seed {seed}: {line}" for line in kind(random, shop)]
            os.chdir(shop.folder)
            shutil.rmtree(place)
    return findings


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
    if isinstance(value, float) and isinstance(wanted, int):
        wanted = float(wanted)
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
        return key in config and ("${" in value or value == "???" or config[key] == value)
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
    if answer.code != 0 and arguments[0] != "ls" and not settings and (changed := _changes(before, _contents(run))):
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


def _read(random: Random, shop: Workshop) -> list[str]:
    """A command that reads runs, over a run and a sweep of which something is damaged."""
    work = Path.cwd()
    run, sweep = work / "outputs" / "2026-01-01" / shop.run.name, work / "outputs" / "sweeps" / shop.sweep.name
    shutil.copytree(shop.run, run)
    shutil.copytree(shop.sweep, sweep)
    files = sorted(path for path in work.rglob("*") if path.is_file())
    damaged = random.sample(files, random.choice([0, 1, 1, 2, 4]))
    for file in damaged:
        inputs.damage_file(random, file)
    arguments = inputs.reader(random, ["latest", run.name, sweep.name[:6], "*", str(run), str(sweep), "outputs"])
    before = _contents(work)
    with shop.without_training():
        answer = shop.call(arguments)
    found = answer.problems() + [f"{arguments!r}: {line}" for line in _printed(answer)]
    changed = _differing(before, _contents(work))
    # rm and gc may have taken away some before they met what can't be.
    whole = answer.code in (0, DIFFERENT) or arguments[0] in ("rm", "gc")
    if changed and (not whole or arguments[0] in ("ls", "show", "compare", "diff") or "-n" in arguments):
        found.append(f"{arguments!r} ended with {answer.code} and changed {changed[:5]}")
    return [f"{line} with {[f'{file.name} {_shown(file)}' for file in damaged]}" for line in found]


def _printed(answer: Answer) -> list[str]:
    """What is wrong with what was printed."""
    found = (
        []
        if all(letter.isprintable() or letter == "\n" for letter in answer.out)
        else ["printed what steers a terminal"]
    )
    if "--json" in answer.arguments and answer.out:
        try:
            json.loads(answer.out, parse_constant=lambda constant: float("x"))
        except ValueError as error:
            found.append(f"printed what is no JSON ({error})")
    return found


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
    changed = _differing(before, after)
    return [name for name in changed if name != "run.lock" and not name.startswith("checkpoints/")]


def _differing(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _shown(file: Path) -> str:
    return repr(file.read_bytes()[:1500]) if file.is_file() and not file.is_symlink() else "gone, or no file"


KINDS = (_command_line, _command_line, _own_config, _damaged_run, _damaged_sweep, _damaged_checkpoint, _read, _read)
"""How often each kind of case is drawn."""
