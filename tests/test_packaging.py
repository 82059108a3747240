"""The built wheel: complete, and able to train from an empty folder with the source out of reach. Run by .ci/run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rlrun.kernels.native import library

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would put into site-packages."""
    built, site = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(built), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=600)
    (wheel,) = built.glob("rlrun-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def files_below(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def test_wheel_has_all_modules_and_configs_and_nothing_else(unpacked: Path) -> None:
    assert files_below(unpacked / "rlrun", "*.py") == files_below(ROOT / "rlrun", "*.py")
    assert files_below(unpacked / "rlrun" / "configs", "*.yaml") == files_below(ROOT / "configs", "*.yaml")
    assert (unpacked / "rlrun" / "py.typed").exists()
    assert (unpacked / "rlrun" / "kernels" / "native.c").exists()
    assert sorted(path.name.split("-")[0] for path in unpacked.iterdir()) == ["rlrun", "rlrun"]
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "rlrun = rlrun.__main__:main" in entry_points.read_text()
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_unpacked_wheel_trains(algo: str, unpacked: Path, tmp_path: Path) -> None:
    program = "import sys, rlrun.cli; print(rlrun.__file__); sys.exit(rlrun.cli.main(sys.argv[1:]))"
    overrides = [f"algo={algo}", "total_frames=600", "evaluation.episodes=2"]
    overrides += ["algo.learning_starts=100"] if algo == "dqn" else []
    done = subprocess.run(
        [sys.executable, "-c", program, *overrides],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(unpacked))
    assert f"tuned/{algo}_cartpole" in done.stdout
    (manifest,) = tmp_path.rglob("run.json")
    manifest = json.loads(manifest.read_text())
    assert manifest["status"] == "finished"
    assert manifest["implementation"] == ("numpy" if library() is None else "numpy and C")
