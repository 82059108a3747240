"""``python -m rlrun.video_worker``: play greedy episodes and film them, in a process of its own that may die without harm to others.

It reads one line of JSON, what to film, from stdin, writes only into the folder named there, and answers with lines of JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, TextIO

from rlrun.config import EnvConfig, from_mapping
from rlrun.envs import allow_imports, make, step_limit
from rlrun.errors import EnvironmentFailure, RlrunError, UnavailableError, in_users_terms
from rlrun.evaluation import read_policy, shares
from rlrun.interrupts import ignore_wishes
from rlrun.movie import Movie, to_gif
from rlrun.provenance import clean, remember
from rlrun.rollout import Environments, Episode
from rlrun.trainers.base import Policy
from rlrun.watchdog import watching

_FASTEST = 60  # pictures a second
_USUAL = 30  # pictures a second of environments that do not say
_SECONDS_BETWEEN_EVENTS = 0.2


class _Orphaned(Exception):
    """Whoever wanted the video has gone."""


class _Camera:
    """Films the environment at one place: its first picture, that of every n-th step, and its last."""

    def __init__(self, movie: Movie, every: int, progress: Callable[[int], object]) -> None:
        self.movie, self.every, self.progress = movie, every, progress

    def take(self, environments: Environments, place: int, steps: int, last: bool = False) -> None:
        if not last and steps % self.every:
            return
        picture = environments.picture(place)
        if self.movie.pictures and picture.shape[:2] != (self.movie.height, self.movie.width):
            raise EnvironmentFailure("the environment's pictures change their size; a video needs one size")
        self.movie.add(picture)
        self.progress(self.movie.pictures)


def play(policy: Policy, config: EnvConfig, seed: int, episodes: int, camera: _Camera) -> list[Episode]:
    """The episodes of ``evaluate`` in its order, filmed one after the other.

    The environments of an evaluation are stepped side by side, and with another number of them the network's last bits may differ. So
    all are stepped for each that is filmed: to step them costs little beside drawing one.

    Raises:
        EnvironmentFailure: one of them fails, or can't be drawn.
    """
    played: list[Episode] = []
    quota = shares(episodes)
    for place, wanted in enumerate(quota):
        environments = Environments(config, len(quota), [seed], exact=False)
        steps, ended = 0, 0

        def at_the_end(index: int, place: int = place, environments: Environments = environments) -> None:
            if index == place:
                camera.take(environments, place, 0, last=True)

        environments.before_reset = at_the_end
        if not environments.failures:
            camera.take(environments, place, 0)
        while ended < wanted:
            if environments.failures:
                raise environments.failures[0]
            environments.step(policy.act(environments.observation))
            steps += 1
            for episode in environments.finished:
                if episode.env == place:
                    played.append(episode)
                    steps, ended = 0, ended + 1
            if ended < wanted and not environments.failures:
                camera.take(environments, place, steps)
        environments.close()
    return played


def speed(metadata: Mapping[str, Any], frame_skip: int, wanted: float | None) -> tuple[int, Fraction]:
    """Steps between two pictures, and pictures a second: in real time, or one a step as fast as ``wanted``."""
    if wanted is not None:
        return 1, Fraction(wanted).limit_denominator(1000)
    given = metadata.get("render_fps")
    usable = isinstance(given, int | float) and math.isfinite(given) and given > 0
    steps_a_second = Fraction(given if usable else _USUAL).limit_denominator(1000) / frame_skip  # type: ignore[arg-type]
    every = math.ceil(steps_a_second / _FASTEST)
    return every, steps_a_second / every


def drawn(config: EnvConfig) -> tuple[EnvConfig, Mapping[str, Any]]:
    """The environment made to be drawn, and its metadata. Raises UnavailableError: it draws no pictures, and what ``make`` raises."""
    kwargs = {key: value for key, value in config.kwargs.items() if key != "render_mode"}
    env = make(dataclasses.replace(config, kwargs=kwargs))
    metadata, modes = env.metadata, env.metadata.get("render_modes") or []
    env.close()
    if "rgb_array" not in modes:
        raise UnavailableError(
            f"env {config.id} draws no pictures: a video needs its render mode rgb_array, it has {', '.join(modes) or 'none'}"
        )
    return dataclasses.replace(config, kwargs=kwargs | {"render_mode": "rgb_array"}), metadata


def _film(request: Mapping[str, Any], say: Callable[..., None]) -> dict[str, Any]:
    config, work = from_mapping(request["config"]), Path(request["work"])
    policy = read_policy(Path(request["weights"]), config)
    env, metadata = drawn(config.env)
    if request["max_steps"] is not None:
        env = dataclasses.replace(env, time_limit=min(request["max_steps"], step_limit(env) or sys.maxsize))
    every, fps = speed(metadata, env.frame_skip, request["fps"])
    said = 0.0

    def progress(pictures: int) -> None:
        nonlocal said
        if os.getppid() != request["parent"]:
            raise _Orphaned
        if time.monotonic() - said >= _SECONDS_BETWEEN_EVENTS:
            said = time.monotonic()
            say(progress=pictures)

    with Movie(work / "video.mp4", fps) as movie:
        episodes = play(policy, env, request["seed"], request["episodes"], _Camera(movie, every, progress))
        movie.finish()
    if movie.blank:
        opengl = os.environ.get("MUJOCO_GL")
        raise UnavailableError(
            "every picture is of one colour, so that there is nothing to see"
            + (f"; it was drawn with MUJOCO_GL={opengl}, try another" if opengl else "")
        )
    if request["gif"]:
        to_gif(movie.path, fps, work / "video.gif")
    return {
        "returns": [episode.return_ for episode in episodes],
        "lengths": [episode.length for episode in episodes],
        "pictures": movie.pictures,
        "fps": float(fps),
        "width": movie.width,
        "height": movie.height,
    }


def main() -> int:
    """Film what stdin describes."""
    ignore_wishes()
    stream = _claim_output()
    request = json.loads(sys.stdin.readline())
    remember(request["secrets"])
    allow_imports(request["imports"])

    def say(**event: Any) -> None:
        print(json.dumps(event), file=stream, flush=True)

    def fail(error: RlrunError) -> None:
        say(error=str(error), code=error.exit_code)

    env = request["config"]["env"]
    try:
        with watching(env["id"], env["step_timeout"], lambda agent, failure: fail(failure)):
            say(**_film(request, say))
    except _Orphaned:
        shutil.rmtree(request["work"], ignore_errors=True)
        return 1
    except Exception as error:
        sys.stderr.write(clean(traceback.format_exc()))
        fail(in_users_terms(error))
    return 0


def _claim_output() -> TextIO:
    """Stdout for our answers alone: what an environment prints goes to stderr, into a log."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def _run_and_exit() -> NoReturn:
    """End at once: threads that an environment has left behind, or a driver, would keep the interpreter alive or crash it."""
    code = 1
    try:
        code = main()
    except BaseException:
        with contextlib.suppress(OSError):
            sys.stderr.write(clean(traceback.format_exc()))
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _run_and_exit()
