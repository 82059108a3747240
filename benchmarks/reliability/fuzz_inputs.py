"""What the fuzzer types and writes: command lines, YAML, damaged files; all of it drawn from a seeded generator."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from rlrun.config import DQNConfig, PPOConfig, RunConfig, to_mapping
from rlrun.config.resuming import leaves

KEYS = sorted({key for algo in (DQNConfig(), PPOConfig()) for key in leaves(to_mapping(RunConfig(algo=algo)))})
GROUPS = {
    "algo": ("dqn", "ppo"),
    "env": ("cartpole", "pendulum", "acrobot", "gymnasium"),
    "network": ("small", "large", "auto"),
    "hardware": ("auto", "cpu"),
    "experiment": ("tutorial_dqn", "tutorial_ppo", "null"),
    "tuned": ("none", "dqn_cartpole"),
}
PLAIN: dict[str, Any] = {
    "0": 0, "1": 1, "-1": -1, "2": 2, "7": 7, "64": 64, "128": 128, "5000": 5000, "100000": 100_000, "1e3": 1000.0, "1e-4": 1e-4,
    "0.5": 0.5, "1.5": 1.5, "-0.1": -0.1, "4294967295": 2**32 - 1, "4294967296": 2**32, "99999999999999999999": 10**20 - 1,
    "true": True, "false": False, "null": None, "abc": "abc", "linear": "linear", "relu": "relu", "auto": "auto", "cpu": "cpu",
    "CartPole-v1": "CartPole-v1", "Pendulum-v1": "Pendulum-v1", "[]": [], "[64,64]": [64, 64], "[0]": [0], "[1,[2]]": [1, [2]],
    "'3'": "3", "{}": {}, "{a: 1}": {"a": 1},
}  # fmt: skip
"""Values and what they mean, by hand: the fuzzer does not ask the parser it tests."""
ODD = [
    "", " ", "nan", "inf", "-inf", "1e400", "1_000", "0x10", "01", "+5", "1.", ".5", "1e", "é", "中", "\u202e", "\ufeff1", "a b", "a\nb",
    "\x1b[31m", "\x7f", "\udc80", "{", "}", "[", "]", "[1,", "(", ")", "'", '"', "''", '"a"', "\\", "a\\,b", "a,b", "1,2,3", "dqn,ppo",
    "range(3)", "range(0)", "range(1,0,0)", "range(1e9)", "choice(1,2)", "choice()", "interval(0,1)", "glob(*)", "glob(", "sort(3,1)",
    "shuffle(1,2)", "tag(a,1,2)", "int(3.5)", "float(x)", "str(1)", "json_str({a:1})", "extend_list(1)", "${seed}", "${algo.gamma}",
    "${algo}", "${oc.env:PATH}", "${oc.env:RLRUN_NO}", "${nope}", "${", "${}", "${oc.decode:'[1,2]'}",
    "${oc.create:{a: 1}}", "${hydra:job.name}",
    "${hydra:}", "${oc.dict.keys:algo}", "${now:%Y}", "???", "../x", "../../../x", "~", "~/x", "$HOME", ".", "..",
    "a=b", "=", "==", "%s", "{0}", "-rf", "--x", "-", "x" * 300, "9" * 400, "[" * 60 + "]" * 60, "!!python/name:os.system", "&a", "*a",
    "2026-01-01",
    "os:Foo-v0", "CartPole", "CartPole-v99", "Blackjack-v1", "ALE/Pong-v5", "cuda", "cuda:3", "gpu", "numpy", "plain",
]  # fmt: skip
OPTIONS = [
    ["-m"], ["-m"], ["-q"], ["--cfg", "job"], ["--cfg", "job", "-p", "algo"], ["--cfg", "job", "-p", "nope"], ["--cfg", "x"], ["--cfg"],
    ["--bogus"], ["--json"], ["-cd", "nowhere"], ["-cd", "."], ["--config-name", "x"], ["--experimental-rerun", "x"], ["--resolve"], ["--"],
    ["-mq"], ["--multirun=1"], ["--package"], ["--hel"], ["-"], ["--episodes", "1e9"], ["--outputs"], ["--outputs", "\x00"],
    ["--seed", "-1"],
    ["--checkpoint", "../x"], ["--device", "gpu"], ["--version"], ["--help"],
]  # fmt: skip
COMMANDS = [
    "train", "ls", "eval", "resume", "configs", "help", "evall", "é", "nope", "resume latest", "eval latest", "configs algo", "ls --json",
    "show", "plot", "compare", "report", "export", "diff", "reproduce", "rm", "gc", "video", "completion", "help export", "completion bash",
]  # fmt: skip
READERS: dict[str, list[list[str]]] = {
    "ls": [["--json"], ["-a"], ["--sort", "X"], ["--sort", "return", "-r"], ["--filter", "X"], ["--filter", "return>1", "algo.gamma=0.99"]],
    "show": [["--json"]],
    "compare": [
        ["--json"], ["--csv"], ["--markdown"], ["--metric", "best"], ["--metric", "auc"], ["--metric", "training"], ["--pool"],
        ["--threshold", "X"], ["--threshold", "10"], ["--at", "X"], ["--at", "100"], ["--normalize", "CartPole-v1=0:500"],
        ["--normalize", "X"],
    ],
    "diff": [["--all"], ["--json"]],
    "plot": [["--json"], ["--figures", "returns"], ["--figures", "X"], ["--format", "svg"], ["--format", "X"], ["-o", "X"]],
    "report": [["--json"], ["-o", "X"], ["-o", "a.html"]],
    "export": [["--format", "safetensors"], ["--format", "X"], ["--checkpoint", "last"], ["--checkpoint", "X"], ["-o", "X"], ["--json"]],
    "video": [["--episodes", "X"], ["--seed", "X"], ["--max-steps", "X"], ["--fps", "X"], ["--format", "X"], ["--checkpoint", "X"]],
    "reproduce": [["--json"], ["-q"]],
    "rm": [["-n"], ["-y"], ["-y", "--best"]],
    "gc": [["-n"], ["-y"], ["-y", "--best"], ["--keep", "X"], ["--older-than", "X"], ["-n", "--json"]],
}  # fmt: skip
"""Commands that read runs, with options of theirs; X stands for any value."""
LETTERS = "abz019._-+~@:=,/ \t\n'\"\\{}[]()$!&*#%é中\x1b\u202e\ud800"


def override(random: Random) -> tuple[str, str, str]:
    """Something typed, its key, and its value as typed."""
    if random.random() < 0.15:
        key = random.choice(list(GROUPS))
        value = random.choice(GROUPS[key]) if random.random() < 0.8 else random.choice(ODD)
    else:
        key = random.choice(
            KEYS if random.random() < 0.95 else ["env.kwargs.a", "env.allow_import", "hydra.job.name", "_target_"]
        )
        value = random.choice(list(PLAIN) if random.random() < 0.6 else ODD)
    if random.random() < 0.2:
        key = mutated(random, key)
    if random.random() < 0.1:
        value = mutated(random, value)
    sign = random.choice(["", "", "", "", "", "", "+", "++", "~", " "])
    text = f"{sign}{key}={value}"
    return (mutated(random, text) if random.random() < 0.05 else text), key, value


def line(random: Random) -> tuple[list[str], list[tuple[str, str]]]:
    """Arguments, and those overrides in it that are as they should be: key and value."""
    arguments, typed = [], []
    if random.random() < 0.15:
        arguments += random.choice(COMMANDS).split()
    for _ in range(random.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        text, key, value = override(random)
        arguments.append(text)
        typed.append((key, value))
    if random.random() < 0.35:
        place = random.randrange(len(arguments) + 1)
        arguments[place:place] = random.choice(OPTIONS)
    return [_inside(text) for text in arguments], typed


def _inside(text: str) -> str:
    """Never an absolute path: a folder that was asked for is made."""
    return re.sub(r"((?:^|=)['\"\\ ]*)/", r"\1x/", text)


def reader(random: Random, names: Sequence[str]) -> list[str]:
    """A command that reads runs, with some of ``names`` or something odd for a name, and some options."""
    command = random.choice(list(READERS))
    targets = {"ls": [0], "diff": [2], "compare": [1, 2], "plot": [1, 2], "report": [1, 2], "rm": [1, 2], "gc": [0, 1]}
    arguments = [command]
    for _ in range(random.choice([*targets.get(command, [1])] * 9 + [0, 3])):
        name = random.choice(names)
        arguments.append(name if random.random() < 0.9 else _inside(mutated(random, name)))
    for option in random.sample(READERS[command], random.choice([0, 1, 1, min(2, len(READERS[command]))])):
        value = random.choice([*PLAIN, *ODD])
        arguments += [_inside(value) if part == "X" else part for part in option]
    return arguments


def mutated(random: Random, text: str) -> str:
    """A text with a letter more, less, doubled, moved, or another one."""
    place = random.randrange(len(text) + 1)
    before, after = text[:place], text[place:]
    return random.choice([
        before + random.choice(LETTERS) + after, before + after[1:], before + after[:1] + after,
        before + after[1:2] + after[:1] + after[2:],
        before + random.choice(LETTERS) + after[1:], text.upper(), text + text[-1:], before,
    ])  # fmt: skip


def own_config(random: Random) -> bytes:
    """An experiment of one's own, with settings that may be wrong and bytes that may be, too."""
    values: dict[str, Any] = {}
    for _ in range(random.choice([0, 1, 2, 4])):
        *parents, last = random.choice(KEYS).split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last if random.random() < 0.9 else mutated(random, last)] = odd_value(random)
    text = "# @package _global_\n" + (yaml.safe_dump(values) if values else "")
    if random.random() < 0.2:
        text += random.choice(
            [
                "a: &a [1]\nb: *a\n",
                "seed: !!int 3\n",
                "\tx: 1\n",
                "seed: 1\nseed: 2\n",
                "<<: {seed: 3}\n",
                "? [1]\n: 2\n",
                "- 1\n",
                "defaults:\n  - nope\n",
                "--- \nseed: 1\n",
                "%YAML 1.2\n",
                "1: 2\n",
                "null: 1\n",
                "hydra:\n  searchpath: [/tmp]\n",
            ]
        )
    data = text.encode("utf-8", "surrogatepass")
    return damaged(random, data) if random.random() < 0.3 else data


def odd_value(random: Random) -> Any:
    """A plain value of any kind."""
    return random.choice([
        None, True, False, 0, 1, -1, 7, 64, 5000, 2**32, 10**400, 0.5, 1.5, 1e300, float("nan"), float("inf"), "", "abc", "é\x1b[31m\u202e",
        "${seed}", "../x", "x" * 5000, "???", [], [1], [64, 64], [[]], ["a"], {}, {"a": 1}, {"a": {"b": [None]}}, "1e-3", "2026-01-01",
        "dqn", "ppo", "running", "finished", "waiting", "stopped", "cpu", "CartPole-v1",
    ])  # fmt: skip


def damaged(random: Random, data: bytes) -> bytes:
    """Bytes with something cut off, turned over, zeroed, put in or put behind."""
    place = random.randrange(len(data) + 1)
    length = random.choice([1, 1, 2, 8, 64, 4096])
    noise = bytes(random.randrange(256) for _ in range(min(length, 64)))
    flipped = bytes([data[place] ^ 1 << random.randrange(8)]) if place < len(data) else b"\0"
    return random.choice([
        data[:place], data[:place] + flipped + data[place + 1 :], data[:place] + bytes(length) + data[place + length :],
        data[:place] + noise + data[place:], data + noise, data[:place] + data[place + length :], noise, b"", data + data,
    ])  # fmt: skip


def damage_tree(random: Random, value: Any) -> Any:
    """A JSON-like tree with one place put, replaced or taken away."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        if random.random() < 0.15:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: damage_tree(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.7:
        place = random.randrange(len(value))
        return [
            *value[:place],
            *([] if random.random() < 0.3 else [damage_tree(random, value[place])]),
            *value[place + 1 :],
        ]
    return odd_value(random)


def damage_file(random: Random, path: Path) -> None:
    """Do something to a file of a run."""
    data = path.read_bytes()
    how = random.random()
    if how < 0.15:
        path.unlink()
        if how < 0.12:
            random.choice(
                [
                    lambda: path.mkdir(),
                    lambda: os.mkfifo(path),
                    lambda: path.symlink_to("/etc/passwd"),
                    lambda: path.symlink_to(path),
                ]
            )()
    elif how < 0.6 and path.suffix == ".json":
        path.write_text(json.dumps(damage_tree(random, json.loads(data))))
    elif how < 0.6 and path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(damage_tree(random, yaml.safe_load(data))))
    else:
        path.write_bytes(damaged(random, data))
