"""``rlrun.train`` and ``rlrun.load``: what the commands do, as objects and exceptions; docs/python.md, run."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Answer
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from support import CARTPOLE, Folder, signal_at
from threadpoolctl import threadpool_info, threadpool_limits

import rlrun
from rlrun.errors import EnvironmentFailure, ResumeError, RlrunError, SweepError, UsageError

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```(python|)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
SHORT = ["total_frames=400", "algo.learning_starts=128", "evaluation.episodes=2"]


def trained(*overrides: str, **arguments: Any) -> rlrun.TrainedRun:
    run = rlrun.train([*SHORT, *overrides], **arguments)
    assert isinstance(run, rlrun.TrainedRun)
    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_on_python(rlrun: Callable[..., Answer], workplace: Path) -> None:
    """Every block, from top to bottom, in one folder and one namespace."""
    names: dict[str, Any] = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 our own page
        else:
            assert rlrun(*shlex.split(block)[1:]).code == 0
    raw = np.random.default_rng(0).normal(0, 1, (500, 4)).astype(np.float32)
    np.testing.assert_array_equal(names["play"](raw), names["policy"](raw))
    assert len(names["returns"]) > 10 and len(names["runs"]) == 2
    assert len([block for language, block in BLOCKS if language == "python"]) == 8


def test_the_page_plays_numbers_too(workplace: Path, rlrun: Callable[..., Answer]) -> None:
    """Its NumPy function, of a clipped and of a squashed policy with a normaliser and standard deviations."""
    from test_policy import SETTINGS

    (block,) = [block for language, block in BLOCKS if language == "python" and "def play" in block]
    for name in ("halfcheetah", "both"):
        run = Folder(workplace / "outputs").trained(SETTINGS[name])
        assert rlrun("export", str(run.directory), "-o", "policy.safetensors").code == 0
        names: dict[str, Any] = {"np": np}
        exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 our own page
        policy = __import__("rlrun").load(run.directory)
        raw = np.random.default_rng(0).normal(0, 5, (100, names["form"]["inputs"])).astype(np.float32)
        np.testing.assert_allclose(names["play"](raw), policy(raw), atol=1e-5)


def test_a_trained_run_tells_what_its_files_tell(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = trained("seed=4")
    assert "finished: 400 frames" in capfd.readouterr().out
    manifest = json.loads((run.directory / "run.json").read_text())
    assert (run.status, run.evaluation, run.best) == ("finished", manifest["evaluation"], manifest["best"])
    assert manifest["overrides"] == [*SHORT, "seed=4"] and run.config.seed == 4
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert run.metrics() == [json.loads(line) for line in lines]
    assert [row["frames"] for row in run.metrics("evaluation")] == [400]
    assert run.episodes()["length"].sum() <= 400
    assert (run.policy().checkpoint, run.policy("last").checkpoint) == ("best.ckpt", "step_000000000400.ckpt")
    assert run.policy(400).frames == 400 and "finished run" in repr(run)


def test_it_trains_what_the_command_trains(workplace: Path, rlrun: Callable[..., Answer]) -> None:
    run = trained(quiet=True)
    answer = rlrun("-q", *SHORT)
    for name in ("metrics.jsonl", "episodes.csv"):
        assert (run.directory / name).read_bytes() == (Path(answer.out.strip()) / name).read_bytes()


def test_quiet_prints_nothing(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(quiet=True)
    for _ in range(2):  # the second finds it complete
        assert trained("run.dir=runs/a", "resume=auto", quiet=True).directory == Path("runs/a")
    assert capfd.readouterr() == ("", "")


def test_a_sweep_is_a_list(
    workplace: Path, fake_worker: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    fake_worker()
    runs = rlrun.train("-m seed=5,3 run.dir=sweep", quiet=True)
    assert isinstance(runs, list) and capfd.readouterr() == ("", "")
    assert [(run.config.seed, run.status) for run in runs] == [(5, "finished"), (3, "finished")]
    assert [run.evaluation and run.evaluation["return_mean"] for run in runs] == [50.0, 30.0]
    again = rlrun.train("-m seed=5,3 run.dir=sweep resume=auto", quiet=True)
    assert isinstance(again, list) and [run.directory for run in again] == [run.directory for run in runs]


def test_a_failed_job_is_an_exception(workplace: Path, fake_worker: Callable[..., None]) -> None:
    fake_worker("end(0, 'failed', 'env failed') if seeds[0] == 2 else end(0)")
    with pytest.raises(SweepError, match=r"1 of 2 jobs ok.*\n#2 seed=2: env failed"):
        rlrun.train("-m seed=1,2 sweep.batch=1", quiet=True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("algo.gama=0.5", "did you mean 'algo.gamma'"),
        ("seed=1,2", "add -m"),
        ("--cfg job", "--cfg is for the command line"),
        (["-h"], "-h is for the command line"),
        ("-q", "-q is for the command line"),
        ("'seed=1", "No closing quotation"),
        ({"seed": 1}, "give one text or a list of texts"),
        (["seed=1", 2], "give one text or a list of texts"),
        ("resume", "'resume' has no value"),
    ],
)
def test_what_can_not_be_trained_is_an_exception(overrides: Any, message: str, workplace: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        rlrun.train(overrides)
    assert list(workplace.iterdir()) == []


def test_an_environment_that_fails_is_an_exception(workplace: Path) -> None:
    import probes

    probes.register()
    with pytest.raises(EnvironmentFailure, match="on fire") as raised:
        rlrun.train([*SHORT, "env.id=ProbeRaise-v0", "env.kwargs.at=100"], quiet=True)
    assert isinstance(raised.value, RlrunError)
    (run,) = (workplace / "outputs").glob("*/*")
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_stops_it_with_a_checkpoint(number: int, error: type[BaseException], workplace: Path) -> None:
    before = signal.getsignal(number)
    with signal_at(200, number), pytest.raises(error):
        trained(quiet=True)
    (run,) = (workplace / "outputs").glob("*/*")
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_000000000200.ckpt"]
    assert signal.getsignal(number) == before


def test_from_another_thread(workplace: Path) -> None:
    runs: list[Any] = []
    thread = threading.Thread(target=lambda: runs.append(trained(quiet=True)))
    thread.start()
    thread.join()
    assert [run.status for run in runs] == ["finished"]


def test_hydra_of_the_caller_is_left_as_it_was(workplace: Path) -> None:
    (workplace / "theirs.yaml").write_text("mine: 1\n")
    with initialize_config_dir(str(workplace), version_base="1.2"):
        theirs = GlobalHydra.instance().hydra
        trained(quiet=True)
        with pytest.raises(UsageError):
            rlrun.train("algo=nothing", quiet=True)
        assert GlobalHydra.instance().hydra is theirs
        assert compose("theirs") == {"mine": 1}
    trained(quiet=True)
    assert not GlobalHydra.instance().is_initialized()


def test_threads_of_the_caller_are_left_as_they_were(workplace: Path) -> None:
    def blas_threads() -> list[int]:
        return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]

    threads = torch.get_num_threads()
    try:
        with threadpool_limits(2):
            torch.set_num_threads(3)
            before, of_torch = blas_threads(), torch.__config__.parallel_info()  # also of the MKL inside torch
            assert 1 not in before
            run = trained("hardware.kernels=plain", quiet=True)
            run.policy().evaluate(1)
            assert blas_threads() == before and torch.__config__.parallel_info() == of_torch
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_denormal_numbers_of_the_caller_stay_what_they_are(kernels: str, workplace: Path) -> None:
    def half_of_the_smallest() -> str:
        return (sys.float_info.min / 2).hex()

    seen = [half_of_the_smallest()]
    run = trained(f"hardware.kernels={kernels}", quiet=True)
    seen.append(half_of_the_smallest())
    policy = rlrun.load(run.directory)
    seen.append(half_of_the_smallest())
    policy.evaluate(1)
    assert [*seen, half_of_the_smallest()] == ["0x0.8000000000000p-1022"] * 4


_AS_IT_WAS = """
import multiprocessing, warnings
import numpy, torch
import rlrun
rlrun.train  # what it imports may add filters

def state():
    generators = torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist()
    return multiprocessing.get_start_method(allow_none=True), list(warnings.filters), *generators

torch.manual_seed(7)
before = state()
for _ in range(2):
    run = rlrun.train({settings!r}, quiet=True)
    assert run.config.engine == "torchrl"
    assert [old == new for old, new in zip(before, state())] == [True] * 4, state()[:2]
"""


def test_torchrl_leaves_the_process_of_the_caller_as_it_was(workplace: Path) -> None:
    code = _AS_IT_WAS.format(settings=[*SHORT, "engine=torchrl"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # its warnings are silenced the second time, too


def test_load_takes_what_eval_takes(workplace: Path) -> None:
    run = Folder(workplace / "elsewhere").trained(CARTPOLE)
    for selector in (run.directory, str(run.directory), run.directory.name[:6], "latest"):
        policy = rlrun.load(selector, outputs="elsewhere")
        assert policy.directory.name == run.directory.name and policy.checkpoint == "best.ckpt"
    assert rlrun.load(run.directory, 390).frames == 390
    with pytest.raises(ResumeError, match="no run at nothing"):
        rlrun.load("nothing")
    with pytest.raises(ResumeError, match="there is: best, 390, 400"):
        rlrun.load(run.directory, 7)
    for wrong in (None, 5, b"a"):
        with pytest.raises(UsageError, match=r"run .+: give a text or a path, as in rlrun.load\('latest'\)"):
            rlrun.load(wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="outputs .+: give a text or a path"):
            rlrun.load("latest", outputs=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed: rlrun.load plays with the run's own settings"):
        rlrun.load(run.directory, overrides=["seed=1"])


def test_one_training_at_a_time(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(*_: Any) -> None:
        rlrun.train(SHORT)

    monkeypatch.setattr("rlrun.cli.train.train_from_python", nested)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"^another rlrun.train is under way in this process"):
            rlrun.train(SHORT)


def test_a_permission_to_import_lasts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an earlier policy can still be made after a later call."""
    code = """
    import gymnasium, numpy as np
    class Small(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {}
        def step(self, action):
            return np.zeros(2, np.float32), 1.0, bool(self.np_random.random() < 0.2), False, {}
    gymnasium.register("Small-v0", Small)
    """
    (workplace / "api_small.py").write_text(re.sub("^    ", "", code, flags=re.MULTILINE))
    monkeypatch.syspath_prepend(str(workplace))
    with pytest.raises(UsageError, match="allow_import"):
        trained("env.id=api_small:Small-v0", quiet=True)
    run = trained("env.id=api_small:Small-v0", "env.allow_import=api_small", quiet=True)
    policy = rlrun.load(run.directory, overrides=["env.allow_import=api_small"])
    trained(quiet=True)
    assert policy.make_env().reset()[0].shape == (2,) and run.policy().evaluate(1)["episodes"] == 1


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = (
        "import sys, rlrun\n"
        "print(sorted({'torch', 'gymnasium', 'hydra', 'numpy', 'rlrun.api'} & set(sys.modules)))\n"
        "assert {'load', 'train'} <= set(dir(rlrun))\n"
        "rlrun.load\n"
        "print(sorted({'torch', 'hydra', 'rich'} & set(sys.modules)))\n"
        "try: rlrun.lode\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]", "module 'rlrun' has no attribute 'lode'"]
