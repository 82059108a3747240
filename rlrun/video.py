"""Videos of a policy. They are made in a process of their own: what draws may crash, leak and hang, and must not cost a training."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrun import env_ids, rendering
from rlrun.checkpoint import Tree, save
from rlrun.config import EnvConfig, RunConfig, to_mapping
from rlrun.errors import (
    EnvironmentFailure,
    ResumeError,
    RlrunError,
    StorageError,
    UnavailableError,
    UsageError,
)
from rlrun.movie import find_ffmpeg
from rlrun.plain import printable, reason_of, write_atomically
from rlrun.provenance import secrets

FORMATS = ("mp4", "gif")
COMMAND = (sys.executable, "-P", "-m", "rlrun.video_worker")
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_LEAVE = 10.0
_ERRORS = {
    kind.exit_code: kind for kind in (UsageError, UnavailableError, ResumeError, StorageError, EnvironmentFailure)
}


@dataclass(frozen=True)
class Order:
    """What is to be seen: greedy episodes, the same that an evaluation of as many with this seed plays."""

    config: RunConfig
    weights: Path | tuple[Tree, Tree]
    """A checkpoint, or the header and state of one."""
    seed: int
    episodes: int = 1
    formats: tuple[str, ...] = FORMATS
    fps: float | None = None
    """Pictures a second, one each step of the agent; None: in real time, of at most 60 pictures."""
    max_steps: int | None = None
    """Where an episode is cut."""
    seconds: float | None = None
    """The same in the environment's time."""


@dataclass(frozen=True)
class Video:
    """What was made."""

    files: list[Path]
    returns: list[float]
    lengths: list[int]
    """In steps of the agent, as in an evaluation."""
    pictures: int
    fps: float
    width: int
    height: int


def check(config: EnvConfig, notice: Callable[[str], object]) -> None:
    """Raises UnavailableError: there is nothing here to draw this environment, or to make videos with."""
    rendering.variables(config, notice)
    find_ffmpeg()


def film(
    order: Order,
    folder: Path,
    name: str,
    progress: Callable[[int], object] = lambda pictures: None,
    notice: Callable[[str], object] = lambda line: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Video | None:
    """Make ``folder/name.mp4`` and ``.gif``, whole or not at all; None if ``interrupted`` became true.

    ``progress`` gets the number of pictures so far, ``notice`` a line on what is not as the user has set it.

    Raises:
        RlrunError: what an evaluation raises; StorageError; UnavailableError: there is nothing here to draw with.
    """
    variables = rendering.variables(order.config.env, notice)
    with _work_folder() as work:
        weights = order.weights if isinstance(order.weights, Path) else work / "policy.ckpt"
        if not isinstance(order.weights, Path):
            save(weights, *order.weights)
        answer = _ask(_request(order, weights, work), work, variables, progress, interrupted)
        if answer is None:
            return None
        files = []
        for end in order.formats:
            files.append(folder / f"{name}.{end}")
            write_atomically(files[-1], (work / f"video.{end}").read_bytes())
    numbers = {key: answer[key] for key in ("returns", "lengths", "pictures", "fps", "width", "height")}
    return Video(files, **numbers)


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """A temporary folder, which is gone afterwards. Raises StorageError: it can't be made, or used."""
    try:
        with tempfile.TemporaryDirectory(prefix="rlrun-video-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise StorageError(f"can't make a video in the temporary folder: {reason_of(error)}; set TMPDIR") from error


def _request(order: Order, weights: Path, work: Path) -> dict[str, Any]:
    return {
        "parent": os.getpid(),
        "imports": env_ids.allowed_imports(),
        "secrets": secrets(),
        "config": to_mapping(order.config),
        "weights": str(weights.absolute()),
        "work": str(work),
        "seed": order.seed,
        "episodes": order.episodes,
        "fps": order.fps,
        "max_steps": order.max_steps,
        "seconds": order.seconds,
        "gif": "gif" in order.formats,
    }


def _ask(
    request: dict[str, Any],
    work: Path,
    variables: dict[str, str],
    progress: Callable[[int], object],
    interrupted: Callable[[], bool],
) -> dict[str, Any] | None:
    """What the worker has made; None if interrupted. Raises RlrunError: what it ran into, or died of."""
    log = work / "worker.log"
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            COMMAND, env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(request).encode() + b"\n")
        answer = _listen(process, progress, interrupted)
        if answer == {}:
            process.wait(_SECONDS_TO_LEAVE)
    except subprocess.TimeoutExpired:
        answer = {}
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        assert process.stdout is not None
        process.stdout.close()
    if os.environ.get("RLRUN_DEBUG") == "1":
        sys.stderr.write(log.read_text(errors="replace"))
    if answer == {}:
        raise _death(code, log, variables.get("MUJOCO_GL"))
    if answer is not None and "error" in answer:
        raise _ERRORS.get(answer["code"], RlrunError)(answer["error"])
    return answer


def _listen(
    process: subprocess.Popen[bytes], progress: Callable[[int], object], interrupted: Callable[[], bool]
) -> dict[str, Any] | None:
    """The worker's last word; None if interrupted, nothing if it ended without one."""
    assert process.stdout is not None
    output, received = process.stdout.fileno(), b""
    while not interrupted():
        ended = process.poll() is not None
        if not select.select([output], [], [], 0 if ended else _SECONDS_BETWEEN_LOOKS)[0]:
            if ended:
                return {}
            continue
        data = os.read(output, 1 << 16)
        if not data:
            return {}
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            if "progress" not in event:
                return event
            progress(event["progress"])
    return None


def _death(code: int, log: Path, opengl: str | None) -> RlrunError:
    """Why the worker ended without a word."""
    written = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        how = "was killed (out of memory?)"
    last = f": {printable(written[-1])[:200]}" if written else ""
    advice = f"; if it draws with OpenGL, try another than MUJOCO_GL={opengl}" if opengl else ""
    return UnavailableError(f"the process that makes the video {how}{last}{advice}")
