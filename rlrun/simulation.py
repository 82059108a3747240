"""The state of a MuJoCo simulation, read out and put back bit for bit.

A state may come from anyone: it never holds an index that MuJoCo's native code would follow.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrun.arrays import finite, fitting
from rlrun.errors import ResumeError


def is_simulation(value: Any) -> bool:
    """Whether it is MuJoCo's mjData. Never imports mujoco: an environment that has an mjData has imported it."""
    return "mujoco" in sys.modules and isinstance(value, sys.modules["mujoco"].MjData)


def capture_simulation(data: Any) -> dict[str, Any]:
    """The integration state, and the derived arrays too: after a step they are stale by design, and rewards read them."""
    mujoco = sys.modules["mujoco"]
    integration = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(data.model, integration))
    mujoco.mj_getState(data.model, data, state, integration)
    # In a simulation that never moved there are no contacts and constraints: what is not empty there has a fixed size.
    # Whole numbers are left out: MuJoCo computes them anew in each step, and follows many as indices into its memory.
    named = _arrays(mujoco.MjData(data.model))
    fixed = {name for name, array in named.items() if array.size and array.dtype.kind == "f"}
    arrays = {name: array.copy() for name, array in _arrays(data).items() if name in fixed}
    return {"type": "simulation", "model": _model_hash(data.model), "state": state, "arrays": arrays}


def restore_simulation(data: Any, tree: dict[str, Any]) -> None:
    """Put what ``capture_simulation`` gave into another simulation of the same model.

    Raises ResumeError for another model, ValueError for what does not fit.
    """
    mujoco = sys.modules["mujoco"]
    if _model_hash(data.model) != tree["model"]:
        raise ResumeError("the MuJoCo model differs from the checkpoint's; use the gymnasium and mujoco of the run")
    integration = mujoco.mjtState.mjSTATE_INTEGRATION
    state = fitting(tree["state"], np.empty(mujoco.mj_stateSize(data.model, integration)))
    mujoco.mj_setState(data.model, data, finite(state), integration)
    # No mj_forward afterwards: it would bring the stale arrays up to date, and the next reward would differ.
    for name, target in _arrays(data).items():
        if name in tree["arrays"] and target.dtype.kind == "f":
            target[...] = fitting(tree["arrays"][name], target)


def _arrays(data: Any) -> dict[str, NDArray[Any]]:
    """Every array of an mjData, as views of its memory."""
    named = {name: getattr(data, name) for name in dir(data) if not name.startswith("_")}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


def _model_hash(model: Any) -> str:
    mujoco = sys.modules["mujoco"]
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(mujoco.mj_versionString().encode() + buffer.tobytes()).hexdigest()
