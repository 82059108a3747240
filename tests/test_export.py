"""Exported policies: what is written is what was trained, in the runtime that will read it, or nothing is written."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import resource
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Answer
from support import CARTPOLE, HALFCHEETAH, RUNNING_NORMS, Folder, merged, trained_policies
from test_policy import SETTINGS

from rlrun import export_formats
from rlrun.errors import StorageError
from rlrun.export import TOLERANCE, ExportError, compare, expected_values, export, observations_for
from rlrun.policy import TrainedPolicy
from rlrun.torch_policy import Form, GreedyPolicy

FORMATS = {"onnx": "onnx", "torchscript": "pt", "torch-export": "pt2", "safetensors": "safetensors"}
REPOSITORY = str(Path(__file__).parent.parent)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``policies(name)``: the policy of a short run with these settings, trained once."""
    return trained_policies(Folder(tmp_path_factory.mktemp("runs")), SETTINGS)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["dueling", "halfcheetah"])
def test_every_format_holds_the_policy(format: str, name: str, policies: Any, tmp_path: Path) -> None:
    policy, path = policies(name), tmp_path / f"policy.{FORMATS[format]}"
    seen = observations_for(policy, 0)
    done = export(policy, format, path, seen)
    assert (done.path, done.bytes, done.observations) == (path, path.stat().st_size, 1000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and list(tmp_path.iterdir()) == [path]
    assert REPOSITORY.encode() not in path.read_bytes(), "a file for others tells nothing of this machine"
    assert 0 < done.difference <= TOLERANCE if name == "halfcheetah" else done.difference == 0


@pytest.mark.parametrize(
    ("format", "name"), [("onnx", "both"), ("onnx", "choices"), ("torch-export", "both"), ("torchscript", "from_five")]
)
def test_every_kind_of_action_is_exported(format: str, name: str, policies: Any, tmp_path: Path) -> None:
    policy = policies(name)
    done = export(policy, format, tmp_path / "policy", observations_for(policy, 1))
    assert done.ties <= 5


def test_onnxruntime_keeps_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".ses")  # it would wait for it
    code = "import rlrun.export_formats, onnxruntime"
    homes = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=homes, check=True, timeout=60)
    assert os.listdir(tmp_path) == [".ses"]


def test_onnxruntime_takes_any_batch_and_knows_what_it_holds(policies: Any, tmp_path: Path) -> None:
    import onnxruntime

    policy, path = policies("halfcheetah"), tmp_path / "policy.onnx"
    export(policy, "onnx", path, observations_for(policy, 0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(entry.name, entry.shape) for entry in session.get_inputs()] == [("observation", ["batch", 17])]
    assert [entry.name for entry in session.get_outputs()] == ["action", "mean"]
    far = np.random.default_rng(0).normal(0, 100, (77, 17)).astype(np.float32)  # beyond the normaliser's clip
    for batch in (far, far[:1], far[:2]):
        (action,) = session.run(["action"], {"observation": batch})
        np.testing.assert_allclose(action, policy(batch), atol=1e-5)
    described = session.get_modelmeta().custom_metadata_map
    assert (described["env"], described["algo"], described["frames"]) == ("HalfCheetah-v5", "ppo", "320")
    assert json.loads(described["policy"])["clip"] == 10.0


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_whose_name_is_not_utf8_is_exported_into_it(format: str, policies: Any, tmp_path: Path) -> None:
    policy = copy.copy(policies("dueling"))
    policy.directory = tmp_path / os.fsdecode(b"r\xff")
    policy.directory.mkdir()
    path = policy.directory / "policy"
    assert export(policy, format, path, observations_for(policy, 0)).bytes == path.stat().st_size


def test_torch_files_say_what_they_hold(policies: Any, tmp_path: Path) -> None:
    policy, seen = policies("dueling"), observations_for(policies("dueling"), 0)
    for format in ("torchscript", "torch-export"):
        export(policy, format, tmp_path / format, seen)
    inside = {"rlrun.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(tmp_path / "torchscript", _extra_files=inside)
    script = json.loads(inside["rlrun.json"])
    torch.export.load(tmp_path / "torch-export", extra_files=inside)
    assert script == json.loads(inside["rlrun.json"])
    assert (script["outputs"], script["checkpoint"]) == (["action", "q_values"], "step_000000000400.ckpt")


def test_observations_are_played_and_drawn(policies: Any) -> None:
    seen = observations_for(policies("dueling"), 0)
    assert seen.shape == (1000, 4) and seen.dtype == np.float32
    assert np.abs(seen[:5]).max() <= 0.05, "where CartPole begins"
    assert len(np.unique(seen, axis=0)) > 900
    assert np.array_equal(seen, observations_for(policies("dueling"), 0))
    assert not np.array_equal(seen, observations_for(policies("dueling"), 1))


@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_a_file_that_plays_otherwise_does_not_appear(
    format: str, policies: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head's weights are 1 % off: what was there before stays, and nothing else is left."""
    policy, path = policies("halfcheetah"), tmp_path / "policy"
    path.write_text("an older one")
    write = export_formats.WRITERS[format]

    def write_wrongly(module: Any, described: Any) -> Any:
        module.network[-1].weight.data *= 1.01
        return write(module, described)

    monkeypatch.setitem(export_formats.WRITERS, format, write_wrongly)
    with pytest.raises(ExportError, match=r"plays otherwise than the policy on \d+ of 1000"):
        export(policy, format, path, observations_for(policy, 0))
    assert path.read_text() == "an older one" and list(tmp_path.iterdir()) == [path]


NUMBERED = np.arange(200, dtype=np.float32)[:, None]
CHOICE = Form(1, (1,), "tanh", False, (2,), False, None, "q_values", "choice", (2,), (5,), ())
CLIPPED = Form(1, (1,), "tanh", False, (1,), False, None, "mean", "clipped", (), (), (1,))


def compared(form: Form, wanted: Any, values: Any, action: Any, found: Any = None, allowed: Any = 1e-5) -> Any:
    """``compare`` of rows repeated to 200 observations, of which the last is as wanted unless a whole column is given."""
    dtype = np.int64 if form.choices else np.float32
    wanted, values = (np.array([*rows, *[rows[-1]] * (200 - len(rows))]) for rows in (wanted, values))
    action = np.array([*np.array(action, dtype), *wanted[len(action) :]], dtype)
    found = np.array(
        [*np.array(values if found is None else found), *values[len(values if found is None else found) :]]
    )

    def play(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = observations[:, 0].astype(int)
        return action[rows], found[rows].astype(np.float32)

    places = np.zeros((200, 1)) + 1e-5
    places[: np.size(allowed), 0] = allowed
    return compare(wanted.astype(dtype), values.astype(np.float32), places, form, play, NUMBERED)


def test_choices_may_differ_where_values_tie() -> None:
    values = [[2, 1], [0.5, 0.500004], [1, 2]]
    assert compared(CHOICE, [5, 6, 6], values, [5, 6, 6]) == (0, 0.0)
    assert compared(CHOICE, [5, 6, 6], values, [5, 5, 6]) == (1, 0.0)
    values[1] = [0.5, 0.50002]
    with pytest.raises(ExportError, match="on 1 of 200 observations"):
        compared(CHOICE, [5, 6, 6], values, [5, 5, 6])
    with pytest.raises(ExportError, match="on 2 of 200 observations"):  # choices that do not exist
        compared(CHOICE, [5, 6, 6], values, [5, 7, 4])


def test_values_that_all_tie_hide_no_wrong_choices() -> None:
    """Two of 200 may be chance; what is constant, in the file or before it was written, is not."""
    assert compared(CHOICE, [5], [[1, 1]], [6, 6]) == (2, 0.0)
    with pytest.raises(ExportError, match="on 3 of 200 observations"):
        compared(CHOICE, [5], [[1, 1]], [6, 6, 6])


def test_values_are_compared() -> None:
    assert compared(CHOICE, [6], [[1, 2]], [6], [[1, 2.000005]]) == (0, 0.0)
    for found in ([[1, 2.00002]], [[1, np.nan]], [[np.inf, 2]]):
        with pytest.raises(ExportError, match="on 1 of 200"):
            compared(CHOICE, [6], [[1, 2]], [6], found)


def test_each_of_several_choices_is_compared() -> None:
    form = Form(1, (1,), "tanh", False, (4,), False, None, "logits", "choices", (2, 2), (0, 0), (2,))
    assert compared(form, [[0, 1]], [[1, 0, 3, 3]], [[0, 1], [0, 0]]) == (1, 0.0)
    with pytest.raises(ExportError, match="on 1 of 200"):
        compared(form, [[0, 1]], [[1, 0, 3, 3]], [[0, 1], [1, 1]])


def test_numbers_may_differ_by_rounding() -> None:
    wanted, allowed = [[0.5], [0.25], [1.0]], [1e-5, 1e-5, 5e-4]
    ties, difference = compared(CLIPPED, wanted, wanted, [[0.5], [0.25 + 5e-6], [1 - 4e-4]], allowed=allowed)
    assert ties == 0 and difference == pytest.approx(4e-4, rel=1e-3)
    for wrong in ([[0.5], [0.25 + 2e-5]], [[0.5], [np.nan]], [[np.inf]], [[0.5], [0.25], [1 - 6e-4]]):
        with pytest.raises(ExportError, match="on 1 of 200"):
            compared(CLIPPED, wanted, wanted, wrong, allowed=allowed)


def test_another_shape_or_kind_is_no_action() -> None:
    flat = Form(1, (1,), "tanh", False, (1,), False, None, "mean", "clipped", (), (), ())
    wanted, values = np.zeros((200, 1), np.float32), np.zeros((200, 1), np.float32)
    for action in (np.zeros(200, np.float32), np.zeros((200, 1), np.int64)):
        with pytest.raises(ExportError, match=r"not float32 \(200, 1\)"):
            parts = lambda observations, a=action: (a[: len(observations)], values[: len(observations)])  # noqa: E731
            compare(wanted, values, values, flat, parts, NUMBERED)


def test_one_observation_alone_is_played_as_well() -> None:
    """A file that was made for batches may take one for something else."""
    zeros, allowed = np.zeros((200, 1), np.float32), np.full((200, 1), 1e-5)
    play = lambda observations: (zeros[: len(observations)] + (len(observations) == 1), zeros[: len(observations)])  # noqa: E731
    with pytest.raises(ExportError, match="on 1 of 200"):
        compare(zeros, zeros, allowed, CLIPPED, play, NUMBERED)


def test_large_observations_leave_fewer_digits() -> None:
    """In single precision 1e8 + 1 - 1e8 is 0: ten times that error is allowed, besides 1e-5 of the largest value."""
    module = GreedyPolicy(Form(2, (1,), "relu", False, (1,), False, None, "mean", "clipped", (), (), (1,)))
    tensors = {
        "network.0.weight": [[1e8, 1.0]],
        "network.0.bias": [0.0],
        "network.2.weight": [[1.0]],
        "network.2.bias": [-1e8],
    }
    module.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()}, strict=False)
    values, allowed = expected_values(module, np.array([[1, 1], [1, 0], [1.5, 0]], np.float32))
    assert values.tolist() == [[0.0], [0.0], [5e7]] and module.low.dtype == torch.float32
    np.testing.assert_allclose(allowed, [[10.00001], [1e-5], [500.0]])


def test_secrets_are_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2hunter2")
    run = Folder(tmp_path).trained(CARTPOLE, {"env": {"kwargs": {"render_mode": None}}, "name": "hunter2hunter2"})
    policy = TrainedPolicy(run, "last")
    policy.directory = Path("hunter2hunter2")
    export(policy, "safetensors", tmp_path / "policy", observations_for(policy, 0))
    assert b"hunter2" not in (tmp_path / "policy").read_bytes()


def test_a_place_that_can_not_be_written(policies: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't write .*No such file or directory"):
        export(policies("dueling"), "safetensors", tmp_path / "gone" / "policy", np.zeros((3, 4), np.float32))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(workplace: Path) -> Path:
    return Folder(workplace / "outputs").trained(CARTPOLE).directory


def test_the_command_exports_into_the_run(rlrun: Callable[..., Answer], run: Path) -> None:
    answer = rlrun("export", "latest", "--format", "onnx,safetensors")
    assert answer.code == 0 and answer.err == ""
    lines = answer.out.splitlines()
    assert len(lines) == 4 and lines[0].endswith("bytes, of best.ckpt")
    assert lines[1].startswith("  checked in onnxruntime ")
    assert lines[1].endswith(" on 1,000 observations: all actions are the same")
    assert sorted(path.name for path in (run / "exports").iterdir()) == ["policy.onnx", "policy.safetensors"]


def test_json_and_a_place_of_ones_own(rlrun: Callable[..., Answer], run: Path, workplace: Path) -> None:
    answer = rlrun("export", str(run), "-o", "mine.pt", "--checkpoint", "last", "--json")
    (entry,) = json.loads(answer.out)
    assert (entry["format"], entry["file"], entry["checkpoint"]) == ("torchscript", "mine.pt", "step_000000000400.ckpt")
    assert (entry["frames"], entry["observations"], entry["ties"]) == (400, 1000, 0)
    assert entry["bytes"] == (workplace / "mine.pt").stat().st_size and not (run / "exports").exists()
    (workplace / "folder").mkdir()
    assert rlrun("export", str(run), "-o", "folder", "--format", "safetensors,torchscript").code == 0
    assert len(list((workplace / "folder").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "onxx"], 2, "--format onxx: no such format; did you mean 'onnx'? choices: onnx, torchscript"),
        (["--format", "onnx,onnx"], 2, "--format onnx is given twice; keep one"),
        (["--format", ""], 2, "--format : no such format; choices"),
        (["--format", "onnx", "-o", "a.pt"], 2, "-o a.pt ends as torchscript does, and --format is onnx; choose one"),
        (
            ["--format", "onnx,torchscript", "-o", "a.pt"],
            2,
            "-o a.pt ends as torchscript does, and --format is onnx,torch",
        ),
        (
            ["-o", "x.foo"],
            2,
            "-o x.foo: no format's files end with .foo; end it with .onnx, .pt, .pt2, .safetensors, or ty",
        ),
        (["-o", ""], 2, "'' is no name of a file or a folder"),
        (["-o", "gone/a.safetensors"], 2, "-o gone/a.safetensors: there is no folder gone"),
        (["--checkpoint", "7"], 4, "there is: best, 390, 400"),
        (["seed=3"], 2, "seed: export plays with the run's own settings; leave it out"),
    ],
)
def test_what_can_not_be_exported(
    arguments: list[str], code: int, message: str, rlrun: Callable[..., Answer], run: Path
) -> None:
    answer = rlrun("export", "latest", *arguments)
    assert answer.code == code and len(answer.errors) == 1 and message in answer.errors[0], answer.errors
    assert not (run / "exports").exists()


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can grow beyond 500 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    format: str, rlrun: Callable[..., Answer], run: Path, workplace: Path, full_disk: None
) -> None:
    answer = rlrun("export", "latest", "--format", format, "-o", "new/er/")
    assert answer.code == 5 and answer.errors == [f"can't write new/er/policy.{FORMATS[format]}: File too large"]
    assert not (workplace / "new").exists() and not (run / "exports").exists()


def test_folders_are_made(rlrun: Callable[..., Answer], run: Path, workplace: Path) -> None:
    assert rlrun("export", "latest", "-o", "a/", "--format", "safetensors").code == 0
    assert rlrun("export", "latest", "-o", "b/c", "--format", "safetensors,torchscript").code == 0
    assert rlrun("export", "latest", "-o", "x.foo", "--format", "safetensors").code == 0
    made = [str(path.relative_to(workplace)) for name in ("a", "b") for path in sorted((workplace / name).rglob("*.*"))]
    assert made == ["a/policy.safetensors", "b/c/policy.pt", "b/c/policy.safetensors"]
    assert (workplace / "x.foo").is_file()
    answer = rlrun("export", "latest", "-o", "x.foo/", "--format", "safetensors")
    assert answer.code == 5 and answer.errors == ["can't make x.foo: File exists; choose another: -o DIR"]


def test_no_run_and_no_package(rlrun: Callable[..., Answer], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rlrun("export", "nothing").code == 4
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    answer = rlrun("export", "latest")
    assert answer.code == 3 and answer.errors == [
        "--format onnx needs onnxscript, which is not installed; pip install 'rlrun[onnx]'"
    ]
    assert rlrun("export", "latest", "--format", "safetensors").code == 0


def test_what_is_no_file_is_not_replaced(rlrun: Callable[..., Answer], run: Path, workplace: Path) -> None:
    os.mkfifo(workplace / "pipe")
    answer = rlrun("export", "latest", "-o", "pipe")
    assert answer.code == 5 and answer.errors == ["can't write pipe: it is no regular file"]
    assert (workplace / "pipe").is_fifo()


def test_a_link_in_place_of_exports_is_not_followed(rlrun: Callable[..., Answer], run: Path, workplace: Path) -> None:
    (workplace / "elsewhere").mkdir()
    (run / "exports").symlink_to(workplace / "elsewhere")
    answer = rlrun("export", "latest", "--format", "safetensors")
    assert answer.code == 5 and "symbolic link" in answer.errors[0]
    assert not list((workplace / "elsewhere").iterdir())


def test_a_run_with_running_statistics_from_the_shell(rlrun: Callable[..., Answer], workplace: Path) -> None:
    run = Folder(workplace / "outputs").trained(merged(HALFCHEETAH, {"env": RUNNING_NORMS}))
    answer = rlrun("export", run.directory.name, "--format", "safetensors")
    assert answer.code == 0 and "actions differ by" in answer.out
