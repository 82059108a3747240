"""Nothing that is secret, by the name of its variable or setting, gets into a file of a run or onto the terminal."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from planted import checkpoint, plant, plant_sweep
from test_cli import only_run
from test_cli_newcomer import install

from rlrun.env_ids import registered
from rlrun.errors import RlrunError, UsageError, internal_error, one_line
from rlrun.plain import printable
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps import launcher
from rlrun.tracking.sender import Output

VARIABLES = (
    "WANDB_API_KEY", "WANDB_ENTITY", "AWS_ACCESS_KEY_ID", "AWS_SESSION", "GITHUB_TOKEN", "github_token", "HF_TOKEN", "MY_SECRET",
    "secret_sauce", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PASSWD", "passwd", "GOOGLE_CREDENTIALS", "APP_CREDENTIAL", "SSH_KEY",
    "OPENAI_API_KEY", "Signing_Key", "TOKENIZED", "SECRET_KEY_BASE",
)  # fmt: skip
CANARIES = {name: f"canary-{number:02}-value" for number, name in enumerate(VARIABLES)}
VAULT = """
import os
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import register

class Vault(CartPoleEnv):
    def __init__(self, api_key="", password=0, fail=False, render_mode=None):
        super().__init__()
        assert api_key == "typed-canary" and password == 98765432, f"wrong {api_key} {password}"
        self.api_key, self.login = api_key, {"user": "me", "password": password}
        self.variables = [value for name, value in os.environ.items() if value.startswith("canary-")]
        self.fail, self.count = fail, 0

    def step(self, action):
        self.count += 1
        if self.fail and self.count > 60:
            raise RuntimeError(f"no access with {self.api_key}, {self.login['password']} and {self.variables}")
        return super().step(action)

def add():
    register("Vault-v0", entry_point=Vault, max_episode_steps=200)
"""
TYPED = ("env.kwargs.api_key=typed-canary", "env.kwargs.password=98765432")
SETTINGS = (
    "env.id=Vault-v0",
    "total_frames=300",
    "algo.learning_starts=50",
    "algo.batch_size=16",
    "evaluation.episodes=1",
    "name=${oc.env:MY_SECRET}",
)


@pytest.fixture
def vault(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that wants secrets and keeps them, and a shell that is full of them."""
    install(workplace, "rlrun.envs", "vault", VAULT)
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setenv("PYTHONPATH", str(workplace))
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    return workplace


def assert_no_secret(workplace: Path, *said: str) -> None:
    secrets = [*CANARIES.values(), "typed-canary", "98765432"]
    files = [path for path in (workplace / "outputs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".ckpt" for path in files)
    for text in [*said, *(path.read_bytes().decode("latin-1") for path in files), *map(str, files)]:
        assert not [secret for secret in secrets if secret in text]


def test_a_run_keeps_no_secret(vault: Path, rlrun: Any) -> None:
    answer = rlrun(*SETTINGS, *TYPED)
    assert answer.code == 0, answer.err
    assert "exact resume: yes" in answer.out
    shown = rlrun(*SETTINGS, *TYPED, "--cfg", "job").out
    assert "api_key: '***'" in shown
    assert_no_secret(vault, answer.out, answer.err, shown, rlrun("ls", "--json").out)
    assert "env.kwargs.api_key=***" in only_run(vault).manifest["overrides"]


def test_what_was_not_stored_is_typed_again(vault: Path, rlrun: Any) -> None:
    assert rlrun("-q", *SETTINGS[:-1], *TYPED).code == 0
    run = only_run(vault)
    where = run.directory.relative_to(vault)
    for command, more in (("resume", ["total_frames=400"]), ("eval", ["--episodes=1"])):
        answer = rlrun(command, "latest", *more)
        settings = "env.kwargs.api_key=VALUE env.kwargs.password=VALUE"
        assert answer.code == 4 and answer.errors == [
            "env.kwargs.api_key, env.kwargs.password were not stored, being secret by name or value; type them again: "
            f"rlrun {command} {where} {settings}"
        ]
        answer = rlrun(command, "latest", *more, *TYPED)
        assert answer.code == 0, answer.err
        assert_no_secret(vault, answer.out, answer.err)
    assert Run.open(run.directory).manifest["frames"] == 400
    assert Run.open(run.directory).manifest["exact"] is True
    answer = rlrun("eval", "latest", *TYPED, "env.kwargs.fail=true")
    assert answer.code == 2 and "env.kwargs.fail: eval plays with the run's own settings" in answer.errors[0]


NESTED = (
    "env.kwargs.tokens=[typed-canary-1,typed-canary-2]",
    "env.kwargs.auth_keys={first: typed-canary-3, others: [typed-canary-4, 98765432]}",
    "env.kwargs.key_count=[1,2]",
)
SAFE = """
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import register

class Safe(CartPoleEnv):
    def __init__(self, tokens, auth_keys, key_count, render_mode=None):
        super().__init__()
        assert tokens == ["typed-canary-1", "typed-canary-2"] and key_count == [1, 2]
        assert auth_keys == {"first": "typed-canary-3", "others": ["typed-canary-4", 98765432]}
        self.tokens, self.others = tokens, auth_keys["others"]

register("Safe-v0", entry_point=Safe, max_episode_steps=200)
"""


def test_lists_and_mappings_of_secrets_are_hidden_and_typed_again(
    rlrun: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "safe.py").write_text(SAFE)
    monkeypatch.syspath_prepend(workplace)
    allowed = "env.allow_import=safe"
    answer = rlrun("env.id=safe:Safe-v0", allowed, *SETTINGS[1:-1], *NESTED)
    assert answer.code == 0, answer.err
    assert "exact resume: yes" in answer.out
    run = only_run(workplace)
    assert run.config.env.kwargs == {
        "tokens": "***",
        "auth_keys": {"first": "***", "others": "***"},
        "key_count": [1, 2],
    }
    assert_no_secret(workplace, answer.out, answer.err)
    settings = ["env.kwargs.tokens", "env.kwargs.auth_keys.first", "env.kwargs.auth_keys.others"]
    answer = rlrun("resume", "latest", allowed, "total_frames=400")
    assert answer.code == 4 and f"{', '.join(settings)} were not stored" in answer.errors[0]
    values = ["[typed-canary-1,typed-canary-2]", "typed-canary-3", "[typed-canary-4,98765432]"]
    typed = [f"{key}={value}" for key, value in zip(settings, values, strict=True)]
    for arguments in (["resume", "latest", "total_frames=400"], ["eval", "latest", "--episodes=1"]):
        answer = rlrun(*arguments, allowed, *typed)
        assert answer.code == 0, answer.err
        assert_no_secret(workplace, answer.out, answer.err)
    assert Run.open(run.directory).manifest["exact"] is True


def test_a_sweep_and_its_workers_keep_no_secret(vault: Path, rlrun: Any) -> None:
    """Its environments fail with the secrets in what they raise."""
    answer = rlrun("-m", *SETTINGS[:-1], *TYPED, "env.kwargs.fail=true", "seed=1,2", "checkpoint.every_frames=20")
    assert answer.code == 9 and "no access with *** " in answer.err.replace(",", " ")
    assert_no_secret(vault, answer.out, answer.err)
    assert rlrun("resume", "sweeps").code == 4


def test_errors_before_a_run_say_no_secret(vault: Path, rlrun: Any) -> None:
    for arguments in (["env.kwargs.api_key=typed-canary", "env.kwargs.password=1"], [*TYPED, "env.kwargs.colour=red"]):
        answer = rlrun(*SETTINGS, *arguments)
        assert answer.code == 2 and len(answer.errors) == 1 and "typed-canary" not in answer.err
    answer = rlrun("env.kwargs.api_token=[typed-canary-2")
    assert answer.code == 2 and "typed-canary" not in answer.err


def test_a_crash_says_no_secret(vault: Path) -> None:
    program = (
        "import sys; from rlrun.cli import main; from rlrun import training\n"
        "def train(runs, *_, **__): raise ZeroDivisionError(str(runs[0].config))\n"
        "training.train = train; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *SETTINGS, *TYPED], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 70 and "ZeroDivisionError" in done.stderr
    crash = only_run(vault).directory / "crash.log"
    assert "api_key" in crash.read_text()
    for text in (done.stdout, done.stderr, crash.read_text()):
        assert not [secret for secret in (*CANARIES.values(), "typed-canary", "98765432") if secret in text]


def test_what_only_looks_a_little_like_a_secret_stays(rlrun: Any) -> None:
    assert "num_keys: 3" in rlrun("--cfg", "job", "env.kwargs.num_keys=3").out


@pytest.mark.parametrize("command", ["resume", "eval", "video", "export", "reproduce"])
def test_what_is_offered_for_typing_again_runs_nothing(command: str, rlrun: Any, workplace: Path) -> None:
    key = "x;touch canary;\n$(touch canary) 'echo "
    run = plant(workplace, "a run", settings={"env": {"kwargs": {key: "***"}}}, status="stopped")
    checkpoint(run, "step_000000000100.ckpt", 100)
    (run / "metrics.jsonl").write_text('{"frames": 100}\n')
    answer = rlrun(command, str(run))
    assert answer.code == 4 and len(answer.errors) == 1
    offered = answer.errors[0].partition("type it again: ")[2]
    typed = "env.kwargs." + key.replace("\n", "") + "=VALUE"
    assert shlex.split(offered) == ["rlrun", command, "a run", typed]


def test_other_lines_to_type_run_nothing(rlrun: Any, workplace: Path) -> None:
    sweep = plant_sweep(workplace, "x;touch canary", {"120000_a_s1": 1.0})
    offered = rlrun("eval", str(sweep.relative_to(workplace))).errors[0].partition("name one of its runs: ")[2]
    assert shlex.split(offered) == ["rlrun", "ls", "sweeps/x;touch canary"]
    module = "x;touch canary;" + 60 * "y"
    with pytest.raises(UsageError) as caught:
        registered(f"{module}:Any-v0")
    offered = str(caught.value).partition("if you trust it, type ")[2]
    assert shlex.split(offered)[0] == f"env.allow_import={module}"


def test_a_key_with_a_dot_can_be_typed_again(rlrun: Any, workplace: Path) -> None:
    plant(workplace, "run", settings={"env": {"kwargs": {"a.b": "***"}}})
    answer = rlrun("eval", "run", "env.kwargs.a.b=3")
    assert answer.code == 4 and "run has no checkpoint" in answer.errors[0]


SHAPES = {
    "of several lines": "-----BEGIN KEY-----\nMIIEpAIBAAKC\n  AQEA7\t0qWxyz\r\n-----END KEY-----\n",
    "long": "-".join(f"part{number}" for number in range(200)),
    "with backslashes and quotes": 'C:\\Users\\me\'s "canary"',
}


@pytest.mark.parametrize("secret", SHAPES.values(), ids=SHAPES)
def test_a_secret_is_known_however_it_was_changed_before_it_is_said(
    secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", secret)
    log, stream = tmp_path / "worker-1.log", io.StringIO()
    for error in (RuntimeError("login failed with " + secret), KeyError(secret), RlrunError(json.dumps({"a": secret}))):
        log.write_text(f"first\n{error}\n\n")
        output = Output(stream)
        output.failed("wandb", error)
        said = [one_line(error), launcher._last_line(log), str(internal_error(error, "")), *str(error).splitlines()]
        said += [printable(" ".join(str(error).split())), stream.getvalue()]
        for text in map(clean, said):
            assert not any(part in text for part in ("MIIE", "7\t0q", "7 0q", "END", "part", "Users", "canary")), text
        assert "***" in one_line(error) and "***" in stream.getvalue()
