"""The catalogue of bad input: 104 rows, by number, each end to end against the command.

Every row gives its exit code, one line for each problem that names the setting, the value and the remedy, and leaves no file.
What is typed is here; runs that can't be used are in ``test_bad_input_runs.py``; disks, environments, processes and
the machine around them in ``test_bad_input_while_running.py``; ``ELSEWHERE`` names tests that already are what a row asks for.

Rows that can't be as they are written, because rlrun has no such thing:
    16  ``con`` is a file name like any other: rlrun runs on POSIX systems only.
    52  the half on ``resume=auto`` is a feature of its own, with tests of its own.
    91  no environment lives in a process of its own; the process that may die is the worker of a sweep (row 73).
    92  the watchdog of hanging environments is a feature of its own, with tests of its own.
    97  there is no prioritised replay: asking for it is an unknown key.
"""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import test_bad_input_runs
import test_bad_input_while_running
from gymnasium.spaces import Box
from test_cli import leftovers

NAME_RULE = "may only contain A-Z a-z 0-9 . _ -"
Case = tuple[int, str, int, list[str]]
"""Number of the row, what a shell would read, exit code, and words of each line on stderr."""

TYPED: list[Case] = [
    (1, "algo=dqnn", 2, ["unknown algo 'dqnn'; did you mean 'dqn'? choices: dqn, ppo"]),
    (1, "network=huge", 2, ["unknown network 'huge'"]),
    (1, "algo='{name: dqn}'", 2, ["choose one of dqn, ppo; settings are typed algo.NAME=VALUE"]),
    (2, "alog=dqn", 2, ["unknown key 'alog'; did you mean 'algo'?"]),
    (2, "_target_=os.system", 2, ["unknown key '_target_'"]),
    (3, "algo.gama=0.9", 2, ["unknown key 'algo.gama'; did you mean 'algo.gamma'?"]),
    (4, "+algo.gama=0.9", 2, ["unknown key 'algo.gama'; did you mean 'algo.gamma'?"]),
    (5, "++algo.x=1", 2, ["unknown key 'algo.x'"]),
    (5, "~algo", 2, ["'algo' can't be removed"]),
    (5, "~algo.gamma", 2, ["'algo.gamma' can't be removed"]),
    (6, "algo.gamma=abc", 2, ["algo.gamma: expected a number in [0, 1], got 'abc'"]),
    (7, "algo.gamma=1.5", 2, ["algo.gamma=1.5 is out of range; it must be a number in [0, 1]"]),
    (7, "algo.gamma=-0.1", 2, ["algo.gamma=-0.1 is out of range; it must be a number in [0, 1]"]),
    (8, "algo.gamma=nan", 2, ["algo.gamma=nan must be finite"]),
    (8, "algo.learning_rate=1e400", 2, ["algo.learning_rate=inf must be finite"]),
    (8, "stop.return=-inf", 2, ["stop.return=-inf must be finite"]),
    (9, "algo.batch_size=-5", 2, ["algo.batch_size=-5 is out of range; it must be an integer >= 1"]),
    (9, "algo.batch_size=0", 2, ["algo.batch_size=0 is out of range; it must be an integer >= 1"]),
    (10, "algo.batch_size=1.5", 2, ["algo.batch_size: expected an integer >= 1, got 1.5"]),
    (10, "algo.batch_size=", 2, ["algo.batch_size: expected an integer >= 1, got ''"]),
    (10, "seed=null", 2, ["seed: expected an integer in [0, 4294967295], got null"]),
    (11, "algo.batch_size", 2, ["write algo.batch_size=VALUE"]),
    (11, "seed", 2, ["write seed=VALUE"]),
    (12, "=5", 2, ["bad override '=5'; write KEY=VALUE"]),
    (13, "''", 2, ["an empty argument; remove it, or write KEY=VALUE"]),
    (14, "'name=a(b'", 2, [f"name='a(b' {NAME_RULE}"]),
    (14, "name={a", 2, [f"name='{{a' {NAME_RULE}"]),
    (14, "name=[1,2", 2, [f"name='[1,2' {NAME_RULE}"]),
    (14, "outputs={a", 2, ["can't parse outputs={a; quote it: 'outputs=\"{a\"'"]),
    (14, "network.hidden=[1,2", 2, ["can't parse network.hidden=[1,2; check its brackets"]),
    (15, "name=é", 2, [f"name='é' {NAME_RULE}"]),
    (15, "name='\"é\"'", 2, [f"name='é' {NAME_RULE}"]),
    (16, "name=../../x", 2, [f"name='../../x' {NAME_RULE}"]),
    (16, "name=/abs", 2, [NAME_RULE]),
    (16, "name=.", 2, [NAME_RULE]),
    (16, "name=-rf", 2, [NAME_RULE]),
    (16, "env.name=../x", 2, [f"env.name='../x' {NAME_RULE}"]),
    (17, f"name={'a' * 300}", 2, ["name is longer than 64 characters; shorten it"]),
    (18, "seed=-1", 2, ["seed=-1 is out of range; it must be an integer in [0, 4294967295]"]),
    (19, "seed=99999999999999999999999", 2, ["seed=99999999999999999999999 is out of range"]),
    (20, "seed=4294967296", 2, ["seed=4294967296 is out of range"]),
    (21, "seed=true", 2, ["seed: expected an integer in [0, 4294967295], got true"]),
    (21, "seed=\"'3'\"", 2, ["seed: expected an integer in [0, 4294967295], got '3'"]),
    (
        22,
        "algo.batch_size=256 algo.buffer_size=100",
        2,
        ["algo.batch_size (256) > algo.buffer_size (100); a batch must fit into the replay memory"],
    ),
    (23, "algo.learning_starts=50000", 2, ["algo.learning_starts (50000) leaves no update before total_frames (50000)"]),
    (23, "algo.learning_starts=0 total_frames=100", 2, ["algo.batch_size (128) leaves no update before total_frames"]),
    (24, "algo=ppo algo.minibatch_size=7", 2, ["is not divisible by algo.minibatch_size (7)"]),
    (24, "algo=ppo algo.minibatch_size=1e6", 2, ["algo.minibatch_size (1000000) > the rollout"]),
    (25, "total_frames=0", 2, ["total_frames=0 is out of range; it must be an integer in [1, "]),
    (25, "algo=ppo total_frames=10", 2, ["total_frames (10) is less than one rollout"]),
    (
        26,
        "algo.epsilon_start=0.1 algo.epsilon_end=0.2",
        2,
        ["algo.epsilon_start (0.1) < algo.epsilon_end (0.2); epsilon can only fall"],
    ),
    (26, "algo.epsilon_start=1.1", 2, ["algo.epsilon_start=1.1 is out of range; it must be a number in [0, 1]"]),
    (26, "algo=ppo algo.clip_range=-1", 2, ["algo.clip_range=-1 is out of range; it must be a number in (0, 10]"]),
    (26, "algo=ppo algo.gae_lambda=1.01", 2, ["algo.gae_lambda=1.01 is out of range; it must be a number in [0, 1]"]),
    (26, "algo.tau=2", 2, ["algo.tau=2 is out of range; it must be a number in (0, 1]"]),
    (27, "network.hidden=[0]", 2, ["network.hidden=[0] is out of range"]),
    (27, "network.hidden=[-1]", 2, ["network.hidden=[-1] is out of range"]),
    (27, "network.hidden=[]", 2, ["network.hidden=[] has no layer; give at least one width"]),
    (27, "network.hidden=abc", 2, ["network.hidden: expected a list of integers"]),
    (28, "algo.num_envs=0", 2, ["algo.num_envs=0 is out of range; it must be an integer in [1, 4096]"]),
    (29, "algo.num_envs=100000", 2, ["algo.num_envs=100000 is out of range; it must be an integer in [1, 4096]"]),
    (
        29,
        "algo=ppo algo.num_envs=4096 algo.rollout_steps=1e8 total_frames=1e15",
        5,
        ["algo.rollout_steps=100000000 with algo.num_envs=4096 needs 32,768.0 GB, "],
    ),
    (29, "-m seed=1,2 sweep.batch=100000 algo.buffer_size=1e6", 5, ["sweep.batch=100000 in", "lower sweep.batch"]),
    (30, "env=cartpoleee", 2, ["unknown env 'cartpoleee'; did you mean 'cartpole'?"]),
    (31, "env.id=CartPol-v1", 2, ["env.id=CartPol-v1: no such environment; did you mean CartPole-v1?"]),
    (32, "env.id=CartPole", 2, ["env.id=CartPole: write the version: CartPole-v1"]),
    (33, "env.id=CartPole-v99", 2, ["env.id=CartPole-v99: no such environment; its versions are CartPole-v0, CartPole-v1"]),
    (34, "env.id=HalfCheetah-v2 algo=ppo", 3, ["env.id=HalfCheetah-v2 needs a package that is not installed; use HalfCheetah-v5"]),
    (35, "env.id=LunarLander-v3", 3, ['env.id=LunarLander-v3 needs a package that is not installed', 'pip install "gymnasium[box2d]"']),
    (35, "env.id=ALE/Pong-v5", 3, ["env.id=ALE/Pong-v5: no installed package registers it with rlrun; install ale-py"]),
    (35, "env.id=phys2d/CartPole-v1", 3, ["env.id=phys2d/CartPole-v1 needs a package that is not installed (jax)"]),
    (36, "env.id=os:Foo-v0", 2, ["env.id=os:Foo-v0 imports the module 'os'", "type env.allow_import=os on the command line"]),
    (36, "env.id=os:Foo-v0 env.allow_import=sys", 2, ["type env.allow_import=os on the command line"]),
    (36, "env.id=os:Foo-v0 env.allow_import=os", 2, ["env.id=Foo-v0: no such environment"]),
    (36, "env.id=nowhere_x:F-v0 env.allow_import=nowhere_x", 3, ["can't import nowhere_x: ModuleNotFoundError"]),
    (36, "env.allow_import=../os", 2, ["env.allow_import=../os: '../os' is not the name of a module"]),
    (36, "env.allow_import=", 2, ["env.allow_import=: '' is not the name of a module"]),
    (36, "env.allow_import=os +env.allow_import=sys", 2, ["env.allow_import is given twice"]),
    (37, "env.id=\"'CartPole-v1 '\"", 2, ["env.id=CartPole-v1 : expected a Gymnasium id such as CartPole-v1"]),
    (37, "env.id=", 2, ["env.id=: expected a Gymnasium id such as CartPole-v1"]),
    (37, "env.id=../x", 2, ["env.id=../x: expected a Gymnasium id such as CartPole-v1"]),
    (37, "env=gymnasium", 2, ["env.id is missing; write env.id=VALUE"]),
    (38, "env=pendulum", 2, ["dqn needs a Discrete action space; Pendulum-v1 has continuous actions (Box). Use algo=ppo"]),
    (39, "env.id=Blackjack-v1 algo=ppo", 2, ["env.id=Blackjack-v1: observation space Tuple", "is not supported"]),
    (40, "env.id=FrozenLake-v1", 2, ["env.id=FrozenLake-v1: observation space Discrete(16) is not supported"]),
    (41, "env.id=Unbounded-v0 algo=ppo", 2, ["env.id=Unbounded-v0: action space", "has no finite bounds"]),
    (42, "env.kwargs.foo=1", 2, ["env.kwargs={'foo': 1}: CartPole-v1 does not accept them"]),
    (43, "env.time_limit=-1", 2, ["env.time_limit=-1 is out of range; it must be an integer >= 1 or null"]),
    (43, "env.time_limit=0", 2, ["env.time_limit=0 is out of range"]),
    (43, "env.time_limit=\"'5'\"", 2, ["env.time_limit: expected an integer >= 1 or null, got '5'"]),
    (43, "env.kwargs.max_episode_steps=-1", 2, ["unexpected keyword argument 'max_episode_steps'"]),
    (44, "env.kwargs.render_mode=bogus", 2, ["env.kwargs.render_mode=bogus: choices: human, rgb_array"]),
    (45, "env.kwargs.render_mode=human", 3, ["env.kwargs.render_mode=human needs a display", "use rgb_array"]),
    (45, "algo=ppo env=halfcheetah env.kwargs.render_mode=human", 3, ["env.kwargs.render_mode=human needs a display"]),
    (46, "device=cuda", 3, ["device=cuda but there is no CUDA device; use device=cpu or device=auto"]),
    (47, "device=cuda:7", 3, ["device=cuda:7 but there is no CUDA device; use device=cpu or device=auto"]),
    *((48, f"device={name}", 2, [f"device='{name}' is not known; choices: auto, cpu, cuda, cuda:N"]) for name in ("gpu", "CPU", "", "mps")),
    *((49, f"device={name}", 2, [f"device='{name}' is not known; choices: auto, cpu, cuda, cuda:N"]) for name in ("meta", "cpu:3")),
    (50, "hardware.threads=0", 2, ["hardware.threads=0 is out of range; it must be an integer in [1, 1024]"]),
    (63, "outputs=/proc/nope", 5, ["can't create /proc/nope: No such file or directory. Choose another place: outputs=DIR"]),
    (64, "outputs=file/runs", 5, ["can't create file/runs: Not a directory. Choose another place: outputs=DIR"]),
    (64, "outputs=file", 5, ["can't create file: Not a directory. Choose another place: outputs=DIR"]),
    (69, "-m 'seed=range(0)'", 2, ["the sweep is empty: seed=range(0)"]),
    (70, "-m seed=1", 2, ["-m is for settings with several values, and none has", "or leave -m out"]),
    (70, "-m", 2, ["-m is for settings with several values"]),
    (70, "algo=dqn,ppo", 2, ["algo=dqn,ppo is a sweep over several values; add -m to run them all"]),
    (70, "seed=1,2", 2, ["seed=1,2 is a sweep over several values; add -m"]),
    (71, "-m 'seed=range(0,10000000)'", 2, ["more than 10,000 jobs; give fewer values, or allow more: sweep.max_jobs=N"]),
    (71, "-m 'seed=range(0,200)' 'algo.gamma=range(0,1,0.01)'", 2, ["more than 10,000 jobs"]),
    (71, "-m seed=1,2,3 sweep.max_jobs=2", 2, ["more than 2 jobs"]),
    (79, "--config-name=nope", 2, ["--config-name: every run starts from rlrun's config; use --config-dir DIR"]),
    (79, "--config-dir=/nonexistent", 2, ["--config-dir=/nonexistent: no such folder"]),
    (85, "seed='${seed}'", 2, ["seed: Recursive interpolation"]),
    (85, "algo.gamma='${algo.tau}' algo.tau='${algo.gamma}'", 2, ["algo.gamma: Recursive interpolation"]),
    (85, "seed='${frobnicate:1}'", 2, ["seed: Unsupported interpolation type frobnicate"]),
    (85, "name='${oc.env:RLRUN_NO_SUCH_VARIABLE}'", 2, ["name: ", "'RLRUN_NO_SUCH_VARIABLE' not found"]),
    (85, "seed='${nope}'", 2, ["seed: Interpolation key 'nope' not found"]),
    (86, "seed=1 seed=2", 2, ["seed is given twice (seed=1 and seed=2); keep one"]),
    (86, "seed=1 +seed=2", 2, ["seed is given twice (seed=1 and +seed=2); keep one"]),
    (87, "--bogus", 2, ["unrecognized arguments: --bogus; see rlrun train --help"]),
    (87, "--cfg", 2, ["expected one argument; see rlrun train --help"]),
    (87, "--experimental-rerun x.pickle", 2, ["pickle"]),
    (96, "logger=wandbb", 2, ["logger=wandbb is not known; choices: tensorboard, wandb, mlflow; for none: []; did you mean 'wandb'?"]),
    (96, "logger.wandb.project=x", 2, ["a logger has no settings", "logging.project=NAME"]),
    (97, "algo.prioritized=true", 2, ["unknown key 'algo.prioritized'"]),
    (103, "resume A B", 2, ["'B' has no value; write B=VALUE"]),
]  # fmt: skip

YAML = {
    80: [
        (b"seed: 1\n\tname: x\n", "mine/env/bad.yaml: line 2, column 1: found character '\\t'"),
        (b"id: [1\n", "mine/env/bad.yaml: line 2, column 1: "),
        (b"name: a\nname: b\n", "mine/env/bad.yaml: line 2, column 1: duplicate key 'name'"),
    ],
    81: [(b"name: \xff\xfe\n", "mine/env/bad.yaml: not UTF-8 (byte 6)"), (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8 (byte 0)")],
    82: [(b"", "env.id is missing; write env.id=VALUE"), (b"id: ???\n", "env.id is missing; write env.id=VALUE")],
    83: [(b"name: !!python/object/apply:os.system [true]\n", "line 1, column 7: tag tag:yaml.org,2002:python")],
    84: [(b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 2, column 8: aliases are not allowed")],
    36: [(b"id: os:Foo-v0\nallow_import: os\n", "env.allow_import is a permission, which no file can give")],
    85: [(b"id: ${env.id}\n", "env.id: Recursive interpolation"), (b"id: ${a.b}\n", "env.id: Interpolation key 'a.b'")],
}  # fmt: skip
"""Number of the row -> content of the user's own ``env/bad.yaml`` and the words about it."""

ELSEWHERE = {
    65: "test_room.py::test_what_does_not_fit_is_refused_before_it_begins",
    72: "test_sweep_training.py::test_a_member_that_fails_leaves_the_others_their_bits",
    73: "test_sweep.py::test_a_dead_worker_costs_its_own_batch",
    74: "test_sweep.py::test_a_signal_saves_everything_and_gives_one_command",
    75: "test_sweep.py::test_a_second_signal_ends_all_processes",
    76: "test_cli.py::test_signals_save_and_say_how_to_continue",
    77: "test_cli.py::test_signals_save_and_say_how_to_continue",
    78: "test_cli_hardship.py::test_closed_terminal_stops_and_saves",
    94: "test_rollout.py::test_actions_reach_the_environment_as_its_space_wants_them",
    91: "test_sweep.py::test_a_dead_worker_costs_its_own_batch",
    101: "test_cli_hardship.py::test_no_memory_left_is_5",
}
"""Number of the row -> the test that covers it."""
OF_ITS_OWN = {92}
"""See the top of this page."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a graphics card and without a display, whatever this one has."""
    monkeypatch.setattr("rlrun.sweeps.resources._GRAPHICS_DRIVERS", ("/dev/no-such-driver",))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


class Unbounded(gymnasium.Env[Any, Any]):
    observation_space = Box(-1, 1, (2,))
    action_space = Box(-np.inf, np.inf, (1,))


@pytest.fixture
def unbounded() -> Iterator[None]:
    gymnasium.register("Unbounded-v0", Unbounded)
    yield
    del gymnasium.registry["Unbounded-v0"]


@pytest.mark.parametrize(("row", "line", "code", "words"), TYPED, ids=[f"{row}: {line:.40}" for row, line, *_ in TYPED])
def test_typed(row: int, line: str, code: int, words: list[str], rlrun: Any, workplace: Path, unbounded: None) -> None:
    (workplace / "file").touch()
    answer = rlrun(*shlex.split(line))
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert len(answer.errors) == 1
    assert all(word in answer.errors[0] for word in words), answer.errors
    assert leftovers(workplace) == ["file"]


@pytest.mark.parametrize("row", YAML)
def test_own_yaml(row: int, rlrun: Any, workplace: Path) -> None:
    (workplace / "mine" / "env").mkdir(parents=True)
    for content, words in YAML[row]:
        (workplace / "mine" / "env" / "bad.yaml").write_bytes(content)
        answer = rlrun("--config-dir", "mine", "env=bad")
        assert answer.code == 2 and len(answer.errors) == 1, answer.err
        assert words in answer.errors[0]
        assert leftovers(workplace) == ["mine", "mine/env", "mine/env/bad.yaml"]


def test_without_asserts(workplace: Path) -> None:
    """Row 102: ``python -O`` takes every assert away, and no check with it."""
    # Not what depends on the fixtures, nor what Hydra itself can't parse then.
    possible = [case for case in TYPED if case[0] not in (41, 45, 46, 47) and not {*"{("} & {*case[1]}]
    cases = list({case[0]: case for case in possible}.values())  # one of each row
    cases.append((102, "env.kwargs='{a: 1}'", 2, ["leave python -O (PYTHONOPTIMIZE) out"]))
    program = (
        "import contextlib, io, json, sys; from rlrun.cli import main; assert False; answers = []\n"
        "for arguments in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as text:\n"
        "        answers.append([main(arguments), text.getvalue()])\n"
        "print(json.dumps(answers))"
    )
    (workplace / "file").touch()
    lines = json.dumps([shlex.split(line) for _, line, *_ in cases])
    arguments = [sys.executable, "-O", "-c", program]
    done = subprocess.run(arguments, input=lines, capture_output=True, text=True, check=True, timeout=300)
    for (row, line, code, words), (given, text) in zip(cases, json.loads(done.stdout), strict=True):
        assert given == code and all(word in text for word in words), (row, line, text)
    assert leftovers(workplace) == ["file"]


def test_every_row_has_its_test() -> None:
    numbered = [test_bad_input_runs, test_bad_input_while_running, sys.modules[__name__]]
    in_docstrings = {row for module in numbered for row in _rows_of(Path(module.__file__ or ""))}
    covered = {case[0] for case in TYPED} | YAML.keys() | ELSEWHERE.keys() | OF_ITS_OWN | in_docstrings
    assert covered == {*range(1, 105)}
    folder = Path(__file__).parent
    for file, _, name in (place.partition("::") for place in ELSEWHERE.values()):
        assert f"\ndef {name}(" in (folder / file).read_text(encoding="utf-8"), name


def _rows_of(path: Path) -> set[int]:
    """The rows that a module's tests name at the beginning of their docstrings: ``Row 51: ...``, ``Rows 53, 57: ...``."""
    rows = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        words = (ast.get_docstring(node) or "") if isinstance(node, ast.FunctionDef) else ""
        if words.startswith("Row"):
            rows |= {int(number) for number in words.partition(":")[0].lstrip("Rows ").split(",")}
    return rows
