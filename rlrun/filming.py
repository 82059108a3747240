"""Playing greedy episodes before a camera, in the process that ``video`` starts for it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from rlrun.config import EnvConfig, from_mapping
from rlrun.envs import make, step_limit
from rlrun.errors import EnvironmentFailure, UnavailableError
from rlrun.evaluation import read_policy, shares
from rlrun.manners import close
from rlrun.movie import Movie, to_gif
from rlrun.rollout import Environments, Episode
from rlrun.trainers.base import Policy

_FASTEST = 60  # pictures a second
_USUAL = 30  # pictures a second of environments that do not say


class Camera:
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


def play(policy: Policy, config: EnvConfig, seed: int, episodes: int, camera: Camera) -> list[Episode]:
    """The episodes of ``evaluate`` in its order, filmed one after the other.

    The environments of an evaluation are stepped side by side, and with another number of them the network's last bits may differ. So
    all are stepped for each that is filmed: to step them costs little beside drawing one.

    Raises:
        EnvironmentFailure: one of them fails, or can't be drawn.
    """
    played: list[Episode] = []
    quota = shares(episodes)
    for place, wanted in enumerate(quota):
        environments = Environments(config, len(quota), [seed], exact=False, whose=["the episodes filmed"])
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


def real_time(metadata: Mapping[str, Any], frame_skip: int) -> tuple[int, Fraction]:
    """Steps between two pictures, and pictures a second, as fast as the environment says that it is."""
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
    close(env, config.id)
    if "rgb_array" not in modes:
        raise UnavailableError(
            f"env {config.id} draws no pictures: a video needs its render mode rgb_array, it has {', '.join(map(str, modes)) or 'none'}"
        )
    return dataclasses.replace(config, kwargs=kwargs | {"render_mode": "rgb_array"}), metadata


def film(request: Mapping[str, Any], progress: Callable[[int], object]) -> dict[str, Any]:
    """Make ``video.mp4``, and ``video.gif`` if it is wanted, in the request's folder. Returns the numbers of a ``video.Video``.

    Raises:
        RlrunError: what playing raises; UnavailableError: nothing is to be seen.
    """
    config, work = from_mapping(request["config"]), Path(request["work"])
    policy = read_policy(Path(request["weights"]), config)
    env, metadata = drawn(config.env)
    every, fps = real_time(metadata, env.frame_skip)
    limits = [request["max_steps"], step_limit(env), request["seconds"] and math.ceil(request["seconds"] * fps * every)]
    env = dataclasses.replace(env, time_limit=min((limit for limit in limits if limit), default=None))
    if request["fps"] is not None:
        every, fps = 1, Fraction(request["fps"]).limit_denominator(1000)

    with Movie(work / "video.mp4", fps) as movie:
        episodes = play(policy, env, request["seed"], request["episodes"], Camera(movie, every, progress))
        movie.finish()
    if movie.blank:
        opengl = os.environ.get("MUJOCO_GL")
        raise UnavailableError(
            "every picture is of one colour, so that there is nothing to see"
            + (f"; if it draws with OpenGL, try another than MUJOCO_GL={opengl}" if opengl else "")
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
