"""Videos: what eval plays, as files that play anywhere; what draws may break in any way, and training never notices."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from support import CARTPOLE, HALFCHEETAH, HOPPER, Folder, Silent, assert_same_run, merged, recorded, resumed

from rlrun import env_ids, rendering, video
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import EnvConfig
from rlrun.errors import EnvironmentFailure, RlrunError, StorageError, UnavailableError
from rlrun.filming import real_time
from rlrun.movie import Movie, to_gif
from rlrun.reports.records import Record, group
from rlrun.run import Run
from rlrun.seeding import Stream, derive
from rlrun.training import train
from rlrun.video import Order, film

FILMED: dict[str, Any] = {"evaluation": {"video": True}}
SMALL = {"env": {"kwargs": {"width": 96, "height": 80}}}  # software draws: it takes its time
SHORT = merged(SMALL, {"env": {"time_limit": 10}})
ODD = """
import os, sys, time
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

class Odd(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 200}
    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)

    def __init__(self, render_mode=None):
        self.count, self.drawing = 0, render_mode is not None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        print("a word on stdout")
        return np.zeros(1, np.float32), 1.0, self.count == 10, False, {}

    def render(self):
        what = os.environ.get("ODD", "")
        if self.count == 8:
            if what == "crash":
                os.kill(os.getpid(), 11)
            if what == "leave":
                os._exit(0)
            if what == "hang":
                time.sleep(1000)
            if what == "raise":
                raise ValueError("no\\nlight")
            if what == "exit":
                sys.exit(3)
        if what == "slow":
            time.sleep(0.2)
        picture = np.full((22 if what == "grow" and self.count == 8 else 21, 33, 3), 40, np.uint8)
        if what != "dark":
            picture[self.count % 21] = 255
        return None if what == "nothing" else picture.astype(float) if what == "floats" else picture

class Blind(Odd):
    metadata = {"render_modes": ["ansi"]}

for number, kind in enumerate((Odd, Blind)):
    gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=40)
"""


@pytest.fixture(scope="module")
def opengl() -> str:
    """What draws MuJoCo here."""
    rendering.find_opengl.cache_clear()
    try:
        return rendering.find_opengl()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def scratch(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = workplace / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the module of Odd-v0, which the variable ODD makes break when it is drawn, is found."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "odd.py").write_text(ODD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setenv("PYTHONPATH", str(folder))
        patch.setattr(sys, "dont_write_bytecode", True)
        yield folder


@pytest.fixture
def odd(site: Path) -> Any:
    """The settings of that environment, and leave to import it."""
    env_ids.allow_imports(["odd"])
    yield merged(CARTPOLE, {"env": {"id": "odd:Odd-v0", "step_timeout": None}})
    env_ids.allow_imports([])


@pytest.fixture(scope="module")
def trained_on_odd(site: Path) -> Run:
    env_ids.allow_imports(["odd"])
    return Folder(site).trained(CARTPOLE, {"env": {"id": "odd:Odd-v0", "step_timeout": None}})


def order_of(run: Run, timeout: float | None = None, **others: Any) -> Order:
    weights = CheckpointFolder(run.checkpoints, 1).resolve("last")
    config = dataclasses.replace(run.config, env=dataclasses.replace(run.config.env, step_timeout=timeout))
    return Order(config, weights, derive(0, Stream.EVALUATION), **others)


def pictures_of(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What ffmpeg says of a video, and its pictures [T, H, W, 3]."""
    from imageio_ffmpeg import read_frames

    frames = read_frames(str(path))
    facts = next(frames)
    facts["codec"] = facts["codec"].strip(",")
    width, height = facts["size"]
    return facts, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames])


# --- files -----------------------------------------------------------------------------------------------------------


def test_what_is_written_plays_anywhere(tmp_path: Path) -> None:
    """33 x 21 becomes 34 x 22, H.264 and yuv420p, with its index before its data; 50 pictures a second become a GIF of 25."""
    with Movie(tmp_path / "a.mp4", Fraction(50)) as movie:
        for number in range(6):
            picture = np.full((21, 33, 3), 20, np.uint8)
            picture[:, :, 1] = 40 * number
            movie.add(picture)
        movie.finish()
    facts, pictures = pictures_of(movie.path)
    assert (facts["codec"], facts["pix_fmt"].partition("(")[0], facts["fps"]) == ("h264", "yuv420p", 50.0)
    assert pictures.shape == (6, 22, 34, 3) and movie.pictures == 6
    assert np.abs(pictures[:, 8, 8, 1].astype(int) - 40 * np.arange(6)).max() < 12
    data = movie.path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    to_gif(movie.path, Fraction(50), tmp_path / "a.gif")
    facts, pictures = pictures_of(tmp_path / "a.gif")
    assert (facts["codec"], facts["fps"], pictures.shape) == ("gif", 25.0, (3, 22, 34, 3))


def test_a_wide_picture_becomes_a_small_gif(tmp_path: Path) -> None:
    with Movie(tmp_path / "a.mp4", Fraction(10)) as movie:
        for picture in np.random.default_rng(0).integers(0, 255, (3, 300, 1000, 3), np.uint8):
            movie.add(picture)
        movie.finish()
    to_gif(movie.path, Fraction(10), tmp_path / "a.gif")
    assert pictures_of(tmp_path / "a.gif")[1].shape == (3, 144, 480, 3)


def test_one_colour_is_seen_to_be_nothing(tmp_path: Path) -> None:
    black, spot = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    spot[3, 4] = 1
    for pictures, blank in (([black, black + 200], True), ([black, spot, black], False)):
        with Movie(tmp_path / "a.mp4", Fraction(10)) as movie:
            for picture in pictures:
                movie.add(picture)
        assert movie.blank is blank


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with Movie(tmp_path / "missing" / "a.mp4", Fraction(10)) as movie, pytest.raises(RlrunError, match="No such file"):
        movie.add(np.zeros((8, 8, 3), np.uint8))
    with (
        Movie(tmp_path / "a.mp4", Fraction(10)) as movie,
        pytest.raises(StorageError, match="ffmpeg can't write a.mp4"),
    ):
        movie.path.mkdir()
        for _ in range(1000):
            movie.add(np.zeros((400, 400, 3), np.uint8))
        movie.finish()


@pytest.mark.parametrize(
    ("metadata", "skip", "every", "fps"),
    [
        ({"render_fps": 50}, 1, 1, Fraction(50)),
        ({"render_fps": 60}, 2, 1, Fraction(30)),
        ({"render_fps": 125}, 1, 3, Fraction(125, 3)),
        ({"render_fps": 125}, 4, 1, Fraction(125, 4)),
        ({}, 1, 1, Fraction(30)),
        ({"render_fps": "fast"}, 1, 1, Fraction(30)),
        ({"render_fps": float("nan")}, 3, 1, Fraction(10)),
    ],
)
def test_real_time(metadata: dict[str, Any], skip: int, every: int, fps: Fraction) -> None:
    assert real_time(metadata, skip) == (every, fps)


# --- what draws ------------------------------------------------------------------------------------------------------


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``working("egl")``: only these OpenGLs draw, on Linux without a display. Returns the names in the order they are tried in."""
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY", *rendering._HEADLESS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")

    def choose(*names: str) -> list[str]:
        tried: list[str] = []
        monkeypatch.setattr(rendering, "_draws", lambda name: tried.append(name) or name in names)
        rendering.find_opengl.cache_clear()
        return tried

    yield choose
    rendering.find_opengl.cache_clear()


def test_opengl_is_tried_out_in_order_and_once(working: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = working("osmesa")
    hopper = EnvConfig(id="Hopper-v5")
    chosen = rendering.variables(hopper)
    assert (chosen["MUJOCO_GL"], chosen["PYOPENGL_PLATFORM"], chosen["SDL_VIDEODRIVER"]) == (
        "osmesa",
        "osmesa",
        "dummy",
    )
    assert rendering.variables(hopper) == chosen and tried == ["egl", "osmesa"]
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("MUJOCO_GL", " OSMesa")
    tried, notices = working("glfw"), list[str]()
    assert rendering.variables(hopper, notices.append)["MUJOCO_GL"] == "glfw" and tried == ["osmesa", "egl", "glfw"]
    assert notices == ["MUJOCO_GL=osmesa draws nothing here, MUJOCO_GL=glfw does"]
    tried = working("osmesa", "egl")
    assert rendering.variables(hopper, notices.append)["MUJOCO_GL"] == "osmesa"
    assert tried == ["osmesa"] and len(notices) == 1


def test_without_opengl_the_line_names_what_to_install(working: Any) -> None:
    working()
    with pytest.raises(UnavailableError, match=r"tried egl, osmesa\); install one: apt-get install libegl1 libgl1, or"):
        rendering.variables(EnvConfig(id="Hopper-v5"))
    assert "MUJOCO_GL" not in rendering.variables(EnvConfig(id="other:Mine-v0"))


def test_what_the_user_has_set_stays_and_what_needs_no_opengl_is_not_tried(
    working: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = working()
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    chosen = rendering.variables(EnvConfig(id="CartPole-v1"))
    assert not {"MUJOCO_GL", "SDL_VIDEODRIVER"} & chosen.keys() and chosen["SDL_AUDIODRIVER"] == "dummy" and not tried


def test_an_opengl_that_is_none_does_not_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not rendering._draws("nonsense")
    monkeypatch.setattr(rendering, "_PROBE", "import os; os.kill(os.getpid(), 11)")
    assert not rendering._draws("egl")
    monkeypatch.setattr(rendering, "_PROBE", "import os; assert os.environ['PYOPENGL_PLATFORM'] == 'egl'")
    assert rendering._draws("egl")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Folder(tmp_path_factory.mktemp("runs")).trained(CARTPOLE)


@pytest.mark.parametrize(("episodes", "seed"), [(1, 0), (7, 3)])
def test_the_episodes_are_those_of_eval(rlrun: Any, scratch: Path, cartpole: Run, episodes: int, seed: int) -> None:
    where = str(cartpole.directory)
    chosen = ("--episodes", str(episodes), "--seed", str(seed), "--json")
    evaluated = json.loads(rlrun("eval", where, *chosen, "--returns").out)
    answer = json.loads(rlrun("video", where, *chosen).out)
    assert answer["returns"] == evaluated["returns"] and answer["checkpoint"] == "best.ckpt"
    assert answer["files"] == [f"{where}/videos/best_seed{seed}.{end}" for end in ("mp4", "gif")]
    facts, pictures = pictures_of(Path(answer["files"][0]))
    assert len(pictures) == answer["pictures"] == sum(answer["lengths"]) + episodes
    assert (facts["fps"], facts["size"]) == (50.0, (600, 400)) == (answer["fps"], (answer["width"], answer["height"]))
    assert pictures[0].min() < 50 and pictures[0].max() > 200 and (pictures[0] != pictures[5]).any()
    facts, pictures = pictures_of(Path(answer["files"][1]))
    assert (facts["fps"], facts["size"]) == (25.0, (480, 320)) and len(pictures) >= answer["pictures"] // 2
    assert os.stat(answer["files"][0]).st_mode & 0o777 == 0o600 and not list(scratch.iterdir())


def test_the_last_picture_is_of_the_end(rlrun: Any, scratch: Path, cartpole: Run) -> None:
    """The pole has fallen to one side there, and stands upright at the beginning."""
    answer = json.loads(rlrun("video", str(cartpole.directory), "--format", "mp4", "--json").out)
    _, pictures = pictures_of(Path(answer["files"][0]))
    columns = [
        np.flatnonzero((np.abs(picture.astype(int) - (202, 152, 101)) < 40).all(2).any(0)) for picture in pictures
    ]
    width = [int(found[-1] - found[0]) for found in columns]
    assert width[0] < 30 and width[-1] > 35 and width[-1] == max(width)


def test_what_is_typed_is_done(rlrun: Any, scratch: Path, cartpole: Run) -> None:
    where = str(cartpole.directory)
    typed = ("--format", "mp4", "--fps", "12.5", "--max-steps", "5", "--checkpoint", "last", "-o", "some/place")
    answer = rlrun("video", where, *typed)
    file = Path("some/place", f"{cartpole.directory.name}_step_000000000400_seed0.mp4")
    assert answer.out.splitlines()[1:] == ["  return 5.00 in 5 steps (--max-steps)", str(file)]
    facts, pictures = pictures_of(file)
    assert facts["fps"] == 12.5 and len(pictures) == 6 and [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--format", "avi"], 2, "--format avi: choices: mp4, gif, or mp4,gif"),
        (["--format", ""], 2, "--format : choices: mp4, gif"),
        (["--fps", "0"], 2, "0 is out of range; it must be in [1, 240]"),
        (["--fps", "nan"], 2, "nan is out of range"),
        (["--max-steps", "0"], 2, "0 is out of range"),
        (["-o", "file"], 2, "-o file: not a folder"),
        (["-o", "file/below"], 5, "can't make file/below: Not a directory; choose another: -o DIR"),
        (["algo.gamma=0.5"], 2, "algo.gamma: video plays with the run's own settings"),
        (["--checkpoint", "77"], 4, "no checkpoint '77'"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    rlrun: Any, cartpole: Run, arguments: list[str], code: int, line: str
) -> None:
    Path("file").touch()
    answer = rlrun("video", str(cartpole.directory), *arguments)
    assert answer.code == code and len(answer.errors) == 1 and line in answer.errors[0]


def test_a_link_in_place_of_the_folder_is_not_followed(rlrun: Any, workplace: Path) -> None:
    run = Folder(workplace).trained(CARTPOLE)
    (workplace / "outside").mkdir()
    (run.directory / "videos").symlink_to(workplace / "outside")
    answer = rlrun("video", str(run.directory))
    assert answer.code == 5 and "is a symbolic link" in answer.errors[0] and not list((workplace / "outside").iterdir())


def test_mujoco_is_drawn_and_plays_as_eval_does(opengl: str, rlrun: Any, workplace: Path) -> None:
    run = Folder(workplace).trained(HOPPER, SMALL)
    chosen = ("--episodes", "2", "--seed", "4", "--json")
    evaluated = json.loads(rlrun("eval", str(run.directory), *chosen, "--returns").out)
    answer = json.loads(rlrun("video", str(run.directory), *chosen, "--format", "mp4").out)
    assert answer["returns"] == evaluated["returns"]
    facts, pictures = pictures_of(Path(answer["files"][0]))
    assert facts["fps"] == pytest.approx(125 / 3, abs=0.01) and len(pictures) == answer["pictures"]
    assert pictures[0].std() > 20 and (pictures[0] != pictures[-1]).any()


# --- what breaks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "kind", "line"),
    [
        ("crash", UnavailableError, "the process that makes the video died of SIGSEGV"),
        ("leave", UnavailableError, "the process that makes the video ended with exit code 0"),
        ("hang", EnvironmentFailure, "env odd:Odd-v0 did not come back within 1 s when it was drawn"),
        ("raise", EnvironmentFailure, "env odd:Odd-v0 can't be drawn: ValueError: no light"),
        ("exit", EnvironmentFailure, "env odd:Odd-v0 can't be drawn: SystemExit: 3"),
        ("nothing", EnvironmentFailure, "can't be drawn: render() gave NoneType, expected pictures as uint8"),
        ("floats", EnvironmentFailure, "can't be drawn: render() gave ndarray float64 (21, 33, 3), expected"),
        ("grow", EnvironmentFailure, "pictures change their size"),
        ("dark", UnavailableError, "every picture is of one colour"),
    ],
)
def test_however_drawing_breaks_it_is_one_line_and_leaves_nothing(
    odd: Any,
    trained_on_odd: Run,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    kind: type[RlrunError],
    line: str,
) -> None:
    monkeypatch.setenv("ODD", what)
    with pytest.raises(kind) as raised:
        film(order_of(trained_on_odd, timeout=1.0), scratch.parent, "film")
    assert line in str(raised.value) and "\n" not in str(raised.value)
    assert not list(scratch.iterdir()) and list(scratch.parent.iterdir()) == [scratch]


def test_a_film_may_take_longer_than_one_of_its_pictures(
    odd: Any, trained_on_odd: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22 pictures of 0.2 s each, none of which may take 2 s."""
    monkeypatch.setenv("ODD", "slow")
    made = film(order_of(trained_on_odd, timeout=2.0, fps=10, episodes=2), scratch.parent, "film")
    assert made is not None and made.pictures == 22


def test_what_it_prints_is_not_taken_for_an_answer(odd: Any, trained_on_odd: Run, scratch: Path) -> None:
    """200 steps a second are drawn at every fourth, and at the end: 0, 4, 8, 10."""
    made = film(order_of(trained_on_odd, episodes=2), scratch.parent, "film")
    assert made is not None and (made.returns, made.lengths) == ([10.0, 10.0], [10, 10])
    assert (made.pictures, made.fps, made.width, made.height) == (8, 50.0, 33, 21)


def test_an_episode_is_cut_after_seconds_of_its_own_time(odd: Any, trained_on_odd: Run, scratch: Path) -> None:
    """A fiftieth of a second at 200 steps a second, whatever it is played at; one picture before the first step."""
    made = film(order_of(trained_on_odd, seconds=0.02, fps=10, episodes=2), scratch.parent, "film")
    assert made is not None and (made.lengths, made.pictures, made.fps) == ([4, 4], 10, 10.0)
    made = film(order_of(trained_on_odd, seconds=0.02, max_steps=3), scratch.parent, "film")
    assert made is not None and made.lengths == [3]


def test_an_environment_without_pictures_is_one_line(odd: Any, scratch: Path) -> None:
    run = Folder(scratch.parent).trained(merged(odd, {"env": {"id": "odd:Blind-v0"}}))
    with pytest.raises(
        UnavailableError, match="draws no pictures: a video needs its render mode rgb_array, it has ansi"
    ):
        film(order_of(run), scratch.parent, "film")


def test_no_room_for_temporary_files_is_one_line(
    cartpole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="in the temporary folder: Not a directory; set TMPDIR"):
        film(order_of(cartpole), tmp_path, "film")


def test_an_interruption_leaves_nothing(
    odd: Any, trained_on_odd: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", "hang")
    seen: list[int] = []
    assert film(order_of(trained_on_odd), scratch.parent, "film", seen.append, interrupted=lambda: bool(seen)) is None
    assert not list(scratch.iterdir()) and not list(scratch.parent.glob("film*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_and_leaves_nothing(
    trained_on_odd: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.setenv("ODD", "hang")
    folder = scratch.parent / "new"
    where = [str(trained_on_odd.directory), "-o", str(folder / "er")]
    command = [sys.executable, "-m", "rlrun", "video", *where, "env.allow_import=odd"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not list(scratch.glob("*/video.mp4")):
        time.sleep(0.05)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in said
    assert not list(scratch.iterdir()) and not folder.exists()


# --- during training -------------------------------------------------------------------------------------------------


def test_filming_changes_no_bit_of_training(scratch: Path) -> None:
    folder = Folder(scratch.parent)
    filmed, plain = folder.trained(CARTPOLE, FILMED), folder.trained(CARTPOLE)
    assert_same_run(filmed, plain)
    names = [f"frames_{frames:012d}.mp4" for frames in (150, 300, 400)]
    assert sorted(file.name for file in (filmed.directory / "videos").iterdir()) == names
    assert not (plain.directory / "videos").exists() and not list(scratch.iterdir())


def test_filming_mujoco_changes_no_bit_of_training(opengl: str, scratch: Path) -> None:
    folder = Folder(scratch.parent)
    filmed, plain = folder.trained(HALFCHEETAH, SHORT, FILMED), folder.trained(HALFCHEETAH, SHORT)
    assert_same_run(filmed, plain)
    for file in (filmed.directory / "videos").iterdir():
        facts, pictures = pictures_of(file)
        assert facts["fps"] == 20.0 and len(pictures) == 11 and pictures[0].std() > 20


def test_the_film_shows_the_episode_of_the_evaluation(scratch: Path) -> None:
    run = Folder(scratch.parent).trained(CARTPOLE, FILMED, {"evaluation": {"episodes": 1}})
    *_, last = [row for row in Record(run.directory, {}, {}).rows if row["type"] == "evaluation"]
    _, pictures = pictures_of(run.directory / "videos" / "frames_000000000400.mp4")
    assert len(pictures) == last["length_max"] + 1


def test_each_member_of_a_population_has_its_own(scratch: Path) -> None:
    folder = Folder(scratch.parent)
    runs = [folder.run(CARTPOLE, FILMED, {"seed": seed}) for seed in (1, 2)]
    train(runs, Silent())
    for run, seed in zip(runs, (1, 2), strict=True):
        assert recorded(run) == recorded(folder.trained(CARTPOLE, {"seed": seed}))
        assert len(list((run.directory / "videos").iterdir())) == 3
    last = [(run.directory / "videos" / "frames_000000000400.mp4").read_bytes() for run in runs]
    assert last[0] != last[1]


def test_what_can_not_be_filmed_is_said_once_and_trained(
    odd: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", "crash")
    view, folder = Silent(), Folder(scratch.parent)
    run = folder.run(odd, FILMED)
    assert train([run], view)[0].status == "finished"
    (note,) = [note for note in view.notes if "video" in note]
    assert note.startswith("no video: ") and "SIGSEGV" in note and note.endswith("; training goes on without")
    assert_same_run(run, folder.trained(odd))


def test_where_nothing_draws_it_is_said_at_the_start(working: Any, scratch: Path) -> None:
    working()
    view = Silent()
    run = Folder(scratch.parent).run(HALFCHEETAH, SHORT, FILMED)
    assert train([run], view)[0].status == "finished"
    (note,) = [note for note in view.notes if "video" in note]
    assert "apt-get install" in note and not (run.directory / "videos").exists()


def test_a_signal_while_filming_stops_a_run_that_goes_on_as_if_never_stopped(scratch: Path) -> None:
    folder = Folder(scratch.parent)
    run = folder.run(CARTPOLE, FILMED)

    def signalled(*arguments: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return film(*arguments, **named)

    with mock.patch.object(video, "film", signalled):
        outcome = train([run], Silent())[0]
    assert (outcome.status, outcome.signal) == ("stopped", signal.SIGTERM)
    assert not list((run.directory / "videos").iterdir()) and not list(scratch.iterdir())
    assert resumed(run).status == "finished"
    assert_same_run(run, folder.trained(CARTPOLE))


def test_filming_without_evaluations_is_refused(rlrun: Any) -> None:
    answer = rlrun("evaluation.video=true", "evaluation.episodes=0")
    assert answer.code == 2 and answer.errors == [
        "evaluation.video=true films evaluations, but evaluation.episodes=0; set evaluation.episodes=10"
    ]


def test_runs_with_and_without_videos_are_of_the_same_settings() -> None:
    manifest = {"name": "", "algo": "dqn", "env": "cartpole", "device": "cpu", "seed": 0}
    records = [Record(Path(name), manifest, {"evaluation.video": name == "a", "algo.gamma": 0.9}) for name in "ab"]
    assert [len(each.records) for each in group(records)] == [2]
