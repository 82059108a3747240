"""Drawing environments where there is no screen: what a process needs for it, tried out in processes that may crash."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable

from gymnasium.envs.registration import registry

from rlrun.config import EnvConfig
from rlrun.errors import UnavailableError
from rlrun.plain import printable

_HEADLESS = {
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",  # it greets on stdout
    "EGL_LOG_LEVEL": "fatal",  # Mesa warns of every driver that it does not find
}
_HEADLESS_OPENGL = ("egl", "osmesa")
_WITHOUT_OPENGL = ("gymnasium.envs.classic_control", "gymnasium.envs.box2d", "gymnasium.envs.toy_text")
_PROBE = """
import sys
import mujoco
from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size="1" rgba="1 0 0 1"/></worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
picture = OffScreenViewer(model, data, 64, 64).render("rgb_array")
sys.exit(None if picture.max() > picture.min() else "a black picture")
"""
"""Draws as Gymnasium's MuJoCo environments do."""
_PROBE_SECONDS = 60


def variables(config: EnvConfig, notice: Callable[[str], object] = lambda line: None) -> dict[str, str]:
    """Environment variables for a process that is to draw the environment without a screen; what the user has set stays.

    They must be there before the process imports anything that draws. An OpenGL that was set by MUJOCO_GL and does not work is
    replaced by one that does, and ``notice`` gets a line on it.

    Raises:
        UnavailableError: it is one of MuJoCo, and no OpenGL works here.
    """
    wanted = {name: value for name, value in _HEADLESS.items() if name not in os.environ}
    module = _module_of(config.id)
    if module.startswith(_WITHOUT_OPENGL):
        return wanted
    try:
        name = find_opengl()
    except UnavailableError:
        if module.startswith("gymnasium.envs.mujoco"):
            raise
        return wanted  # of somebody else's environment nobody knows whether it needs one
    own = _own()
    if own not in ("", name):
        notice(f"MUJOCO_GL={printable(own)} draws nothing here, MUJOCO_GL={name} does")
    return wanted | _choosing(name)


@functools.cache
def find_opengl() -> str:
    """The first value of MUJOCO_GL that draws a picture here: what it is set to, egl, osmesa, or glfw if there is a display.

    Raises:
        UnavailableError: none does.
    """
    names = _candidates()
    for name in names:
        if _draws(name):
            return name
    raise UnavailableError(
        f"MuJoCo can't draw here: no OpenGL works without a screen (tried {', '.join(map(printable, names))}); "
        "install one: apt-get install libegl1 libgl1, or libosmesa6"
    )


def _own() -> str:
    """What the user has set, as MuJoCo understands it."""
    return os.environ.get("MUJOCO_GL", "").strip().lower()


def _choosing(name: str) -> dict[str, str]:
    """The variables that choose an OpenGL."""
    return {"MUJOCO_GL": name} | ({"PYOPENGL_PLATFORM": name} if name in _HEADLESS_OPENGL else {})


def _candidates() -> list[str]:
    windows = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or sys.platform != "linux"
    headless = _HEADLESS_OPENGL if sys.platform == "linux" else ()
    return [name for name in dict.fromkeys((_own(), *headless, "glfw" if windows else "")) if name]


def _draws(name: str) -> bool:
    command = (sys.executable, "-P", "-c", _PROBE)
    try:
        done = subprocess.run(
            command, env=os.environ | _choosing(name), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_PROBE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _module_of(identifier: str) -> str:
    """The module an environment comes from, as far as that is known without importing any."""
    entry_point = registry[identifier].entry_point if identifier in registry else None
    return entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
