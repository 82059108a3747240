"""Hostile run directories, made by code: each attack changes a good run in place. ``ATTACKS`` maps a name to it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.checkpoint import MAGIC, load, packed, save

STEP, BEST = "checkpoints/step_000000000400.ckpt", "checkpoints/best.ckpt"
Attack = Callable[[Path, Path], None]
"""``attack(run, outside)``: the run's directory, and a folder that nothing may touch. ``outside/canary`` must never exist."""


class Call:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def pickles(canary: str) -> dict[str, bytes]:
    code = f"open({canary!r}, 'w').write('CANARY')"
    objects = np.empty(1, object)
    objects[0] = Call(exec, code)
    array = io.BytesIO()
    np.save(array, objects, allow_pickle=True)
    calls = {
        "os.system": Call(os.system, f"touch {canary}"),
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "builtins by getattr": Call(getattr, Call(__import__, "os"), "system"),
        "nested": Call(pickle.loads, pickle.dumps(Call(exec, code))),
        "dict of weights": {"model": {"w": [1.0]}, "optimizer": Call(exec, code)},
    }
    raw = {
        f"{name} ({protocol})": pickle.dumps(value, protocol) for name, value in calls.items() for protocol in (0, 2, 5)
    }
    return raw | {
        # module os, name system, mark, text, tuple, reduce: as no pickler would write it
        "by hand": f"cos\nsystem\n(S'touch {canary}'\ntR.".encode(),
        "_codecs": b"c_codecs\nencode\n(Vx\nVlatin1\ntR.",
        "torch.load": b"ctorch\nload\n(S'" + canary.encode() + b"'\ntR.",
        "numpy object array": array.getvalue(),
    }


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def signed(
    state: bytes = b"{}", tensors: bytes = b"\x02\0\0\0\0\0\0\0{}", fields: Any = None, **preamble: Any
) -> bytes:
    """Our container with a right digest, around anything."""
    sizes = {"schema": 1, "state_bytes": len(state), "tensor_bytes": len(tensors), "fields": fields or {}}
    header = json.dumps(sizes | preamble).encode()
    body = MAGIC + struct.pack("<I", len(header)) + header + state + tensors
    return body + hashlib.sha256(body).digest()


def tensors(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str = "F32", shape: Any = (16,), offsets: Any = (0, 64)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS = {
    "huge header": tensors({}, length=2**63 - 1),
    "header of 100 MB": tensors({}, length=100_000_001),
    "overlapping": tensors({"a": tensor(), "b": tensor()}),
    "with a hole": tensors({"a": tensor(shape=(4,), offsets=(48, 64))}),
    "backwards": tensors({"a": tensor(offsets=(64, 0))}),
    "beyond the end": tensors({"a": tensor(shape=(2**20,), offsets=(0, 2**22))}),
    "negative shape": tensors({"a": tensor(shape=(-16,))}),
    "shape of 1e9": tensors({"a": tensor(shape=(10**9,))}),
    "shape that overflows": tensors({"a": tensor(shape=(2**32, 2**32, 2**32))}),
    "empty of 1e18": tensors({"a": tensor(shape=(0, 10**18), offsets=(0, 0))}, data=b""),
    "duplicate keys": tensors(
        b'{"a":' + json.dumps(tensor()).encode() + b',"a":' + json.dumps(tensor()).encode() + b"}"
    ),
    "unknown type": tensors({"a": tensor("PYOBJ")}),
    "bfloat16": tensors({"a": tensor("BF16", (32,))}),
    "float8": tensors({"a": tensor("F8_E4M3", (64,))}),
    "deep": tensors(b"[" * 50_000),
    "metadata": tensors({"__metadata__": {"format": "pickle"}, "a": tensor()}),
    "no header": b"\0" * 3,
}
CONTAINERS = {
    "deep": signed(b"[" * 100_000),
    "deep dicts": signed(b'{"a":' * 900 + b"1" + b"}" * 900),
    "a number of 10,000 digits": signed(b'{"a":' + b"9" * 10_000 + b"}"),
    "a list of a million": signed(b'{"training":{"steps":[' + b"1," * 1_000_000 + b"1]}}"),
    "nan": signed(b'{"loop":NaN,"training":Infinity,"offsets":-Infinity}'),
    "not JSON": signed(b"\xff\xfe"),
    "sizes beyond": signed(state_bytes=2**62),
    "sizes below 0": signed(state_bytes=-1, tensor_bytes=13),
    "a huge header": MAGIC + struct.pack("<I", 2**32 - 1) + bytes(64),
    "schema of text": signed(schema="__import__('os').system('id')"),
    "a later schema": signed(schema=99),
    "pickle for state": signed(pickle.dumps({"a": 1})),
    "tensors missing": signed(b'{"training":{"$array":"x"}}'),
}


def checkpoint_attacks() -> dict[str, Attack]:
    """In place of both checkpoints."""

    def foreign(canary: str) -> dict[str, bytes]:
        found = pickles(canary)
        bomb = found["by hand"]
        return found | {
            "torch.save": zipped(
                ("archive/data.pkl", bomb), ("archive/version", b"3\n"), ("archive/data/0", bytes(64))
            ),
            "torch.jit": zipped(("archive/code/__torch__.py", b"CANARY"), ("archive/data.pkl", bomb)),
            "Stable-Baselines3": zipped(("data", b"{}"), ("pytorch_variables.pth", bomb), ("policy.pth", bomb)),
            "zip that climbs": zipped(("../../../canary", b"x")),
            "zip bomb": zipped(("data", bytes(50_000_000)), method=zipfile.ZIP_DEFLATED),
            "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500),
            "text": b"import os\n",
            "nothing": b"",
            "only our magic": MAGIC,
            "ELF": b"\x7fELF" + bytes(200),
        }

    def write(make: Callable[[Path], bytes]) -> Attack:
        def attack(run: Path, outside: Path) -> None:
            for name in (STEP, BEST):
                (run / name).write_bytes(make(outside))

        return attack

    attacks = {
        f"checkpoint: {name}": write(lambda outside, name=name: foreign(str(outside / "canary"))[name])
        for name in foreign("x")
    }
    attacks |= {
        f"safetensors: {name}": write(lambda _, content=content: content) for name, content in SAFETENSORS.items()
    }
    attacks |= {
        f"safetensors in our container: {name}": write(lambda _, content=content: signed(tensors=content))
        for name, content in SAFETENSORS.items()
    }
    attacks |= {f"container: {name}": write(lambda _, content=content: content) for name, content in CONTAINERS.items()}

    def memory_mapped(run: Path, outside: Path) -> None:
        for name in (STEP, BEST):
            (run / name).unlink()
            (run / name).mkdir()
            (run / name / "meta.json").write_text(
                '{"_type": "tensordict._td.TensorDict", "shape": [], "device": "None"}'
            )
            (run / name / "other.pickle").write_bytes(pickles(str(outside / "canary"))["by hand"])

    return attacks | {"checkpoint: a memory-mapped TensorDict": memory_mapped}


TAGS = (
    "!!python/object/apply:os.system ['touch {canary}']",
    "!!python/object/new:os.system ['touch {canary}']",
    "!!python/name:os.system",
    "!!python/module:evilmod",
    "!!python/object:evilmod.Evil {{}}",
    "!!binary aGVsbG8=",
    "!!set {{a, b}}",
    "!evil x",
)
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
YAML = {
    "bomb": BOMB,
    "merge keys": "base: &b {id: evilmod:Foo-v0}\nenv:\n  <<: *b\n",
    "deep": "[" * 10_000,
    "deep mapping": "".join(" " * n + f"k{n}:\n" for n in range(300)),
    "duplicate keys": "seed: 1\nseed: 2\n",
    "large": "# " + "x" * 300_000,
    "several documents": "seed: 1\n---\nseed: 2\n",
    "keys that are no text": "1: 2\n",
    "a list": "[1, 2]",
    "nothing": "",
    "tabs": "a:\n\t- b",
}
TARGETS = [
    *(
        "os.system",
        "subprocess.run",
        "builtins.exec",
        "builtins.eval",
        "pickle.loads",
        "torch.load",
        "numpy.load",
        "evilmod.Evil",
    ),
    *(
        f"{module}.os.system"
        for module in ("logging", "shutil", "pathlib", "tempfile", "glob", "inspect", "gymnasium.core")
    ),
    *(
        f"{module}.sys.modules"
        for module in ("logging", "typing", "warnings", "rlrun.plain", "rlrun.run", "rlrun.checkpoint")
    ),
]
WORDS = (
    "_target_",
    "_partial_",
    "_args_",
    "_recursive_",
    "_convert_",
    "defaults",
    "hydra",
    "_self_",
    "_call_",
    "__class__",
)
DEEPER = ("", "algo", "env", "network", "hardware", "evaluation", "checkpoint", "logging", "stop", "plot")


def targets() -> list[tuple[str, str, Any]]:
    """200 places and values that an instantiating library would call: (where in the config, key, value)."""
    pairs = [(where, word) for word in WORDS for where in DEEPER]
    return [(where, word, TARGETS[number % len(TARGETS)]) for number, (where, word) in enumerate(pairs * 2)]


HYDRA = {
    "config.yaml": "_target_: os.system\n_args_: ['touch {canary}']\n",
    "overrides.yaml": "- '+hydra.callbacks.evil._target_=evilmod.Evil'\n",
    "hydra.yaml": (
        "hydra:\n  searchpath: ['pkg://evilmod']\n  callbacks: {{evil: {{_target_: torch.load, f: {canary}}}}}\n"
        "  job_logging: {{handlers: {{console: {{class: evilmod.Evil}}}}}}\n  run: {{dir: {canary}}}\n"
    ),
}
ENVIRONMENTS = (
    "evilmod:Foo-v0", "evilmod:CartPole-v1", "evilmod/Foo-v0", "os:system-v0", "../evilmod:Foo-v0", "evilmod.sub:Foo-v0",
    "CartPole-v1:evilmod", " evilmod:Foo-v0", "evilmod:Foo-v0\n", "gymnasium.envs.evilmod:Foo-v0", "${oc.env:HOME}-v0",
)  # fmt: skip
SIZES = {
    "network.hidden": [[10**9], [10**6, 10**6], [1] * 50_000],
    "algo.buffer_size": [10**12, 10**18],
    "algo.num_envs": [10**9],
    "algo.batch_size": [10**12],
    "env.frame_stack": [10**9],
    "algo.n_step": [10**9],
}


def config_attacks() -> dict[str, Attack]:
    def text(content: str) -> Attack:
        return lambda run, outside: put(run / "config.yaml", content.format(canary=outside / "canary").encode())

    def edited(key: str, value: Any) -> Attack:
        def attack(run: Path, _: Path) -> None:
            import yaml

            values = yaml.safe_load((run / "config.yaml").read_text())
            *parents, last = key.split(".")
            target = values
            for parent in parents:
                target = target[parent]
            target[last] = value
            (run / "config.yaml").write_text(yaml.safe_dump(values))

        return attack

    attacks = {f"config: tag {tag.split()[0]}": text(f"seed: {tag}\n") for tag in TAGS}
    attacks |= {
        f"config: {name}": lambda run, _, c=content: put(run / "config.yaml", c.encode())
        for name, content in YAML.items()
    }
    attacks |= {"config: not UTF-8": lambda run, _: put(run / "config.yaml", b"seed: \xff\xfe")}
    attacks |= {
        f"config: {number} {where}.{word}": edited(
            f"{where}.{word}".lstrip("."), {"_target_": value} if number % 2 else value
        )
        for number, (where, word, value) in enumerate(targets())
    }
    attacks |= {f"env.id: {identifier!r}": edited("env.id", identifier) for identifier in ENVIRONMENTS}
    attacks |= {
        f"config: {key}={str(value)[:20]}": edited(key, value) for key, values in SIZES.items() for value in values
    }
    attacks |= {f"config: name={name!r:.40}": edited("name", name) for name in TRAVERSALS}
    return attacks


TRAVERSALS = [
    *(
        "..",
        "../x",
        "../../../x",
        "/etc/cron.d/x",
        "/",
        "~",
        "~/x",
        "./x",
        "x/../../y",
        "..\\x",
        "C:\\x",
        "\\\\host\\x",
        "x\0y",
        "\0",
    ),
    *(
        "-rf",
        "--help",
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        "+1",
        "|id",
        ";id",
        "$(id)",
        "`id`",
        "%2e%2e%2fx",
        "..%00/",
        "....//x",
    ),
    *(
        "\x1b]0;owned\x07",
        "\x1b[2J",
        "a\nb",
        "a\rb",
        "\u202egnp.x",
        "\u2066x",
        "\ufeffx",
        "．．/x",
        "a" * 65,
        "a" * 5000,
        " ",
        ".",
        "",
    ),
    *(
        "file:///etc/passwd",
        "pkg://evilmod",
        "${oc.env:HOME}",
        "{0.__class__}",
        "%s%n",
        "<script>",
        "nul",
        "con",
        "x:y",
        "*",
        "?",
    ),
]


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def manifest_attacks() -> dict[str, Attack]:
    def raw(content: bytes) -> Attack:
        return lambda run, _: put(run / "run.json", content)

    attacks: dict[str, Attack] = {
        "run.json: deep": raw(b"[" * 100_000),
        "run.json: deep dicts": raw(b'{"a":' * 5000 + b"1" + b"}" * 5000),
        "run.json: a list": raw(b"[]"),
        "run.json: nothing": raw(b""),
        "run.json: nan": raw(b'{"frames": NaN}'),
        "run.json: duplicate keys": raw(b'{"id": "a", "id": "b"}'),
        "run.json: large": raw(b" " * 300_000),
        "run.json: not UTF-8": raw(b'{"id": "\xff"}'),
        "run.json: a pickle": raw(b"cos\nsystem\n(S'id'\ntR."),
    }
    for number, target in enumerate(TARGETS):
        attacks[f"run.json: {number} {target}"] = lambda run, _, t=target: edit_json(
            run / "run.json",
            lambda values: values.update(
                _target_=t,
                population={"_target_": t, "first": t, "size": t},
                machine=t,
                versions={"_target_": t},
                best=t,
            ),
        )
    for name in TRAVERSALS:
        attacks[f"run.json: names {name!r:.40}"] = lambda run, _, n=name: edit_json(
            run / "run.json",
            lambda values: values.update(
                id=n, name=n, sweep=n, population={"first": n, "size": 1}, overrides=[f"outputs={n}", n], experiment=n
            ),
        )
    return attacks


TEXTS = {
    "ansi": "\x1b[31m\x1b]0;owned\x07\x9b2J",
    "lines": "a\nrlrun: error: forged\r\n\u2028\u2029b",
    "bidi": "\u202eevil\u2066\u200b\ufeff",
    "formula": "=cmd|' /C calc'!A0",
    "surrogate": "\ud800",
    "markup": "[bold red]x[/] [link=file:///]y[/link]",
}
SHOWN = (
    "id",
    "status",
    "created",
    "updated",
    "algo",
    "env",
    "env_id",
    "name",
    "device",
    "failure",
    "sweep",
    "tuned",
    "experiment",
)


def text_attacks() -> dict[str, Attack]:
    """In every text that a command shows."""
    return {
        f"text: {kind} in {field}": lambda run, _, f=field, t=text: edit_json(
            run / "run.json", lambda v: v.update({f: t})
        )
        for kind, text in TEXTS.items()
        for field in SHOWN
    } | {
        f"text: {kind} in overrides": lambda run, _, t=text: edit_json(
            run / "run.json", lambda v: v.update(overrides=[t, f"{t}={t}", f"seed={t}"], inexact_because=[t], alone=t)
        )
        for kind, text in TEXTS.items()
    }


PARTS = (
    "config.yaml",
    "run.json",
    "run.lock",
    "metrics.jsonl",
    "timing.jsonl",
    "episodes.csv",
    STEP,
    BEST,
    "checkpoints",
)
PARTS_MADE = ("plots", "crash.log", "sweep.json")


def file_attacks() -> dict[str, Attack]:
    """Links, pipes and folders in place of each part of a run."""

    def linked(part: str, target: str | None) -> Attack:
        def attack(run: Path, outside: Path) -> None:
            path, away = run / part, outside / part.replace("/", "_")
            if target is None:  # a link to what is right: the good run's own part, moved away
                path.rename(away) if path.exists() else away.write_text("{}")
            elif path.exists():
                path.rename(run / "moved")
            path.symlink_to(away if target is None else target)

        return attack

    def made(part: str, make: Callable[[Path], Any]) -> Attack:
        def attack(run: Path, _: Path) -> None:
            if (run / part).exists():
                (run / part).rename(run / "moved")
            make(run / part)

        return attack

    attacks: dict[str, Attack] = {}
    for part in (*PARTS, *PARTS_MADE):
        for name, target in {
            "zero": "/dev/zero",
            "passwd": "/etc/passwd",
            "proc": "/proc/self/mem",
            "away": None,
        }.items():
            attacks[f"link: {part} to {name}"] = linked(part, target)
        attacks[f"link: {part} to itself"] = linked(part, part.rpartition("/")[2])
        attacks[f"pipe: {part}"] = made(part, os.mkfifo)
        attacks[f"folder: {part}"] = made(part, Path.mkdir)
    return attacks


def planted_attacks() -> dict[str, Attack]:
    """Files that other tools would load from a run's directory."""

    def hydra(run: Path, outside: Path) -> None:
        (run / ".hydra").mkdir()
        for name, content in HYDRA.items():
            (run / ".hydra" / name).write_text(content.format(canary=outside / "canary"))
            (run / name.replace("config", "multirun")).write_text(content.format(canary=outside / "canary"))
        (run / "multirun.yaml").write_text("hydra: {launcher: {_target_: evilmod.Evil}}\n")

    def modules(run: Path, outside: Path) -> None:
        (run / "hydra_plugins").mkdir()
        for name in ("evilmod.py", "sitecustomize.py", "torch.py", "rlrun.py", "hydra_plugins/evil.py", "conftest.py"):
            (run / name).write_text(f"open({str(outside / 'canary')!r}, 'w').write('CANARY')\n")

    def names(run: Path, _: Path) -> None:
        for number, name in enumerate(TRAVERSALS):
            safe = name.replace("/", "\u2215").replace("\0", "0")[:80]
            (run / "checkpoints" / f"step_{number:012d}{safe}.ckpt").write_bytes(b"x")
        (run / "checkpoints" / f"step_{'9' * 60}.ckpt").write_bytes(b"x")

    def renamed(run: Path, _: Path) -> None:
        header, _tree = load(run / STEP)
        assert header["frames"] == 400
        (run / STEP).rename(run / "checkpoints" / "step_000000000200.ckpt")

    return {
        "planted: .hydra": hydra,
        "planted: modules": modules,
        "names of checkpoints": names,
        "another frame": renamed,
    }


def pieced_attacks() -> dict[str, Attack]:
    """A memory in pieces in place of that in the checkpoint, with a piece that is there and a right digest."""

    def attack_of(rows: dict[str, Any], **counts: Any) -> Attack:
        def attack(run: Path, _: Path) -> None:
            *chunks, digest = packed({}, rows)
            put(run / "checkpoints" / f"{0:012d}-{4:012d}-{digest.hex()[:16]}.piece", b"".join((*chunks, digest)))
            header, tree = load(run / STEP)
            pieces = [[0, 4, digest.hex()]]
            tree["training"]["replay"] = {"written": 4, "capacity": 4, "pieces": pieces} | counts
            save(run / STEP, header | {"pieces": pieces}, tree)

        return attack

    good = {"rows": np.zeros((4, 10), np.float32), "outcomes": np.zeros((4, 3), np.float32)}
    return {
        "pieces: nothing was written": attack_of(good, written=0),
        "pieces: a huge capacity": attack_of(good, capacity=10**30),
        "pieces: no capacity": attack_of(good, capacity=0),
        "pieces: none": attack_of(good, pieces=[]),
        "pieces: no arrays": attack_of({"rows": {"a": 1, "b": 2, "c": 3, "d": 4}, "outcomes": [0] * 4}),
        "pieces: of another memory": attack_of({"rows": np.zeros((4, 0), np.float32)}),
    }


ATTACKS: dict[str, Attack] = {
    **checkpoint_attacks(),
    **config_attacks(),
    **manifest_attacks(),
    **text_attacks(),
    **file_attacks(),
    **planted_attacks(),
    **pieced_attacks(),
}
