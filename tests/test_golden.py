"""Runs that earlier versions wrote can be listed, evaluated and extended; a checkpoint of a later version is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrun import checkpoint
from rlrun.checkpoint import load
from rlrun.metrics import read_episodes, read_rows
from rlrun.run import Run

GOLDEN = Path(__file__).parent / "golden"
RUNS = sorted(path.parent.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("run.json"))


@pytest.fixture(params=RUNS)
def golden(request: pytest.FixtureRequest, workplace: Path) -> Path:
    """A copy of one of them, in the current folder."""
    directory = workplace / "outputs" / request.param
    shutil.copytree(GOLDEN / request.param, directory, copy_function=shutil.copyfile)
    return directory.relative_to(workplace)


def test_there_are_runs_of_every_schema() -> None:
    assert {f"schema_{number}" for number in range(1, checkpoint.SCHEMA + 1)} == {name.split("/")[0] for name in RUNS}
    assert {"schema_1/dqn", "schema_1/ppo", "schema_2/dqn"} <= set(RUNS)
    for name in RUNS:
        assert sum(path.stat().st_size for path in (GOLDEN / name).rglob("*")) < 100_000


def test_it_is_listed(golden: Path, rlrun: Any) -> None:
    (listed,) = json.loads(rlrun("ls", "--json").out)
    assert listed["status"] == "finished" and listed["algo"] == golden.name
    assert rlrun("ls").out.splitlines()[1].startswith(golden.name)


@pytest.mark.parametrize("which", ["best", "last"])
def test_it_is_evaluated(golden: Path, which: str, rlrun: Any) -> None:
    answer = rlrun("eval", str(golden), "--episodes", "2", "--checkpoint", which, "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    assert result["episodes"] == 2 and np.isfinite(result["return_mean"])


def test_it_is_extended_and_keeps_what_it_had(golden: Path, rlrun: Any) -> None:
    before = Run.open(golden)
    frames, rows, episodes = before.manifest["frames"], read_rows(golden / "metrics.jsonl"), read_episodes(golden)
    header, tree = load(golden / "checkpoints" / f"step_{frames:012d}.ckpt")
    assert header["frames"] == frames and tree["loop"]["episodes"] == len(episodes["frames"])
    assert "already complete" in rlrun("resume", str(golden)).out
    answer = rlrun("resume", str(golden), f"total_frames={2 * frames}")
    assert answer.code == 0, answer.err
    after = Run.open(golden)
    assert (after.manifest["status"], after.manifest["frames"], after.manifest["resumed"]) == (
        "finished",
        2 * frames,
        1,
    )
    assert read_rows(golden / "metrics.jsonl")[: len(rows)] == rows
    assert max(row["frames"] for row in read_rows(golden / "metrics.jsonl")) == 2 * frames
    for name, values in episodes.items():
        np.testing.assert_array_equal(read_episodes(golden)[name][: len(values)], values)


def test_a_checkpoint_of_a_later_schema_is_refused_and_kept(golden: Path, rlrun: Any) -> None:
    (path,) = (golden / "checkpoints").glob("step_*.ckpt")
    content = path.read_bytes()
    start = len(checkpoint.MAGIC) + 4
    (length,) = struct.unpack("<I", content[start - 4 : start])
    preamble = json.loads(content[start : start + length]) | {"schema": checkpoint.SCHEMA + 3}
    header = json.dumps(preamble).encode()
    body = checkpoint.MAGIC + struct.pack("<I", len(header)) + header + content[start + length : -32]
    path.write_bytes(body + hashlib.sha256(body).digest())
    for line in (["resume", str(golden), "total_frames=9999"], ["eval", str(golden), "--checkpoint", "last"]):
        answer = rlrun(*line)
        assert answer.code == 4 and answer.errors == [
            f"{path} was written by rlrun {preamble.get('rlrun', '?')} (schema {checkpoint.SCHEMA + 3}), "
            f"this one reads {checkpoint.SCHEMA}; upgrade rlrun"
        ]
    assert path.read_bytes()[:-32] == body
