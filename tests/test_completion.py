"""What Tab offers, asked as the shells ask; and the manual pages, which are made of the same parsers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer

from rlrun.cli import COMMANDS, _main_of
from rlrun.cli.arguments import parser_of

RLRUN = [sys.executable, "-m", "rlrun"]


@pytest.fixture
def offered(workplace: Path) -> Callable[[str], list[str]]:
    """``offered("rlrun algo=")``: what bash gets for a line with the cursor at its end."""

    def ask(line: str) -> list[str]:
        reading, writing = os.pipe()
        asked = {
            "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SHELL": "bash",
            "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        }  # fmt: skip
        script = f'exec 8>&{writing}; exec "$@"'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *RLRUN], env=os.environ | asked, pass_fds=[writing], capture_output=True
        )
        os.close(writing)
        with os.fdopen(reading) as answer:
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
            return answer.read().split("\n")

    return ask


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("rlrun ", {"eval", "ls", "algo=", "seed=", "run.dir="}, {"algo.gamma=", "--quiet", "-sc"}),
        ("rlrun --", {"--quiet", "--multirun", "--cfg"}, {"--experimental-rerun", "--shell-completion", "algo="}),
        ("rlrun algo=", {"dqn", "ppo"}, {"cartpole"}),
        ("rlrun train env=half", {"halfcheetah"}, {"hopper"}),
        ("rlrun algo=ppo algo.cl", {"algo.clip_range="}, {"algo.tau="}),
        ("rlrun algo.double=", {"true", "false"}, {"null"}),
        ("rlrun -m algo=dqn,p", {"dqn,ppo"}, {"ppo"}),
        ("rlrun seed=1 se", {""}, {"seed="}),
        ("rlrun device=c", {"cpu", "cuda"}, {"auto"}),
        ("rlrun resume=", {"auto", "never"}, {"latest"}),
        ("rlrun eval x --checkpoint ", {"best", "last"}, {"latest"}),
        ("rlrun configs ppo", {"ppo"}, {"dqn"}),
        *((f"rlrun {command} x ", set(), {"algo=", "seed=", "run.dir="}) for command in ("eval", "export", "video")),
        ("rlrun reproduce x ", set(), {"algo=", "seed="}),
        ("rlrun resume x ", {"total_frames=", "device="}, {"algo=", "seed=", "run.dir=", "name=", "outputs="}),
        ("rlrun resume x stop.", {"stop.return="}, {"algo.gamma="}),
        ("rlrun ls --filter ", {"status=", "return\\>", "seed="}, {"network=", "resume=auto", "algo.gamma="}),
        ("rlrun ls --filter st", {"status=", "stop.return="}, {"algo="}),
        ("rlrun ls --filter algo=ppo algo.", {"algo.gamma=", "algo.tau=", "algo.clip_range="}, {"status="}),
        ("rlrun ls --filter status=", {"finished", "done", "interrupted"}, {"dqn"}),
        ("rlrun ls --filter algo=", {"dqn", "ppo"}, {"cartpole"}),
        ("rlrun ls --filter env=half", {"halfcheetah"}, {"hopper"}),
        ("rlrun ls --sort ", {"return", "age"}, {"status"}),
        ("rlrun compare x --metric ", {"final"}, {"latest"}),
        ("rlrun export x --format ", {"onnx", "safetensors"}, {"png"}),
        ("rlrun export x --format onnx,to", {"onnx,torchscript"}, {"torchscript", "onnx,onnx"}),
        ("rlrun video x --format mp4,", {"mp4,gif"}, {"mp4,mp4"}),
        ("rlrun plot x --format s", {"svg"}, {"png"}),
        ("rlrun plot x --figures returns,l", {"returns,losses"}, {"losses"}),
        ("rlrun -q pl", {"plot"}, {"eval"}),
        ("rlrun --quiet ", {"eval", "algo="}, {"algo.gamma="}),
        ("rlrun -q plot x --figures ret", {"returns"}, {"losses"}),
        ("rlrun help re", {"resume"}, {"eval"}),
        ("rlrun nonsense ", {"algo="}, {"eval"}),
    ],
)  # fmt: skip
def test_offered(line: str, some: set[str], none: set[str], offered: Callable[[str], list[str]]) -> None:
    prefixed = "=" in line.rpartition(" ")[2]
    words = {word.rpartition("=")[2] if prefixed else word for word in offered(line)}
    assert some <= words and not none & words


def test_runs_and_sweeps(offered: Callable[[str], list[str]], workplace: Path) -> None:
    member = workplace / "outputs/sweeps/2026-01-01_000000_grid/120000_grid_s1"
    single = workplace / "elsewhere/2026-01-02/130000_dqn_cartpole_s0"
    for directory in (
        member,
        workplace / "outputs/2026-01-02/130000_dqn_cartpole_s0",
        single,
        workplace / "outputs/x/no",
    ):
        directory.mkdir(parents=True)
    for directory in (member, single, workplace / "outputs/2026-01-02/130000_dqn_cartpole_s0"):
        (directory / "run.json").write_text("{}")
    assert set(offered("rlrun eval ")) == {"latest", "2026-01-01_000000_grid", "130000_dqn_cartpole_s0"}
    for line in (
        "rlrun show ",
        "rlrun diff ",
        "rlrun diff latest ",
        "rlrun ls ",
        "rlrun rm ",
        "rlrun plot x ",
        "rlrun -q eval ",
    ):
        assert set(offered(line)) == {"latest", "2026-01-01_000000_grid", "130000_dqn_cartpole_s0"}, line
    assert offered("rlrun resume 12") == ["120000_grid_s1"]
    assert offered("rlrun eval 2026-01-02/") == ["2026-01-02/130000_dqn_cartpole_s0"]
    assert offered("rlrun eval --outputs elsewhere 1") == ["130000_dqn_cartpole_s0"]
    assert "run.dir=outputs/" in offered("rlrun run.dir=")


def test_what_a_shell_must_not_get_is_not_offered(offered: Callable[[str], list[str]], workplace: Path) -> None:
    for name in ("-f", "a\x1b[2Jb", "a\nb", "good"):
        directory = workplace / "outputs" / "2026-01-02" / name
        directory.mkdir(parents=True)
        (directory / "run.json").write_text("{}")
    assert set(offered("rlrun eval ")) == {"latest", "good"}
    (workplace / "mine" / "env").mkdir(parents=True)
    (workplace / "mine" / "env" / "a\x1b[2Jb.yaml").touch()
    (workplace / "mine" / "env" / "cart.yaml").write_text("# \x1b[2JMine.\n")
    assert {"cart", "cartpole"} == {word.partition("=")[2] or word for word in offered("rlrun -cd mine env=cart")}
    assert offered("rlrun -cd mine env=a\x1b") == [""]


def test_places_of_files(offered: Callable[[str], list[str]], workplace: Path) -> None:
    (workplace / "pictures").mkdir()
    for command in ("plot", "video", "export"):
        assert [word.strip() for word in offered(f"rlrun {command} latest -o pic")] == ["pictures/"]


def test_nothing_heavy_is_imported_to_answer(workplace: Path) -> None:
    for line in ("rlrun algo=", "rlrun eval ", "rlrun resume ", "rlrun ls --filter st"):
        script = (
            "import os, sys; from rlrun.cli import main\n"
            "def end(code): print(*sorted(sys.modules), file=sys.stderr); real(code)\n"
            "real, os._exit = os._exit, end\n"
            "main()"
        )
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        command = ["bash", "-c", 'exec 8>/dev/null; exec "$@"', "bash", sys.executable, "-c", script]
        done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True)
        loaded = set(done.stderr.split())
        assert "argcomplete" in loaded and not {"torch", "hydra", "omegaconf", "matplotlib", "scipy"} & loaded, line


def test_no_parser_imports_anything_heavy(workplace: Path) -> None:
    script = (
        "import sys; from rlrun.cli import COMMANDS, _main_of; from rlrun.cli.arguments import parser_of\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'matplotlib', 'scipy', 'plotly', 'imageio'}\n"
        "for name in COMMANDS: print(parser_of(_main_of(name)).prog, *sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"rlrun {name}" for name in COMMANDS], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_of_a_shell(shell: str, rlrun: Callable[..., Answer]) -> None:
    answer = rlrun("completion", shell)
    assert answer.code == 0 and "rlrun" in answer.out
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    assert subprocess.run([shell, "-n", "-c", answer.out]).returncode == 0


def test_bash_completes(rlrun: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "rlrun").write_text(f'#!/bin/sh\nexec {RLRUN[0]} -m rlrun "$@"\n')
    (tmp_path / "rlrun").chmod(0o700)
    words = "COMP_WORDS=(rlrun env = half) COMP_CWORD=3 COMP_LINE='rlrun env=half' COMP_POINT=14 COMP_TYPE=9"
    script = f'{rlrun("completion", "bash").out}\n{words}; _python_argcomplete rlrun half =; printf "%s\\n" "${{COMPREPLY[@]}}"'
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["halfcheetah"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not here")
def test_fish_completes(rlrun: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "rlrun").write_text(f'#!/bin/sh\nexec {RLRUN[0]} -m rlrun "$@"\n')
    (tmp_path / "rlrun").chmod(0o700)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = f"{rlrun('completion', 'fish').out}\ncomplete -C 'rlrun ev'"
    done = subprocess.run(["fish", "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.split("\t")[0] == "eval"


# --- manual ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page(
    command: str, rlrun: Callable[..., Answer], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    answer = rlrun("help", command)
    assert (answer.code, answer.err) == (0, "")
    titles = [line for line in answer.out.splitlines() if line and not line.startswith(" ")]
    assert [*titles[:3], *titles[-2:]] == ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"]
    assert f"rlrun {command} - " in answer.out and "--help" in answer.out
    assert not list(workplace.iterdir())
    examples = answer.out.partition("EXAMPLES")[2].partition("EXIT STATUS")[0].splitlines()
    assert all(len(line) <= 70 for line in answer.out.splitlines() if line not in examples)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_commands_that_parse(command: str, rlrun: Callable[..., Answer]) -> None:
    page = rlrun("help", command).out
    examples = page.partition("\nEXAMPLES\n")[2].partition("\n\n")[0].splitlines()
    assert examples and all("rlrun" in line for line in examples)
    assert "EXAMPLES\n       formats" not in page and "examples:" not in page
    parser = parser_of(_main_of(command))
    for line in examples:
        words = shlex.split(re.split(r" > | {2,}", line.strip())[0])
        if words[0] == "rlrun" and command not in ("completion", "train"):
            assert words[1] == command
            parser.parse_intermixed_args(words[2:])


def test_commands_of_the_pages_parse() -> None:
    pages = (Path(__file__).parent.parent / "docs").glob("*.md")
    lines = [line.strip() for page in pages for line in page.read_text().splitlines() if line.startswith("rlrun ")]
    typed = [shlex.split(re.split(r" {2,}", line)[0])[1:] for line in lines]
    for command, *words in typed:
        if command in COMMANDS:
            parser_of(_main_of(command)).parse_intermixed_args(words)
    assert {"compare", "export"} <= {words[0] for words in typed}


def test_notes_are_no_examples(rlrun: Callable[..., Answer]) -> None:
    page = rlrun("help", "reproduce").out
    assert "\nNOTES\n       exit code: 0 equal, 10 not equal\n" in page
    assert "\n       10   two runs are not equal" in page


@pytest.mark.parametrize(
    ("words", "said"), [(["evaluate"], "did you mean 'eval'?"), (["eval", "ls"], "type rlrun help eval")]
)
def test_help_of_what_is_no_command(words: list[str], said: str, rlrun: Callable[..., Answer]) -> None:
    answer = rlrun("help", *words)
    assert answer.code == 2 and said in answer.errors[0]
