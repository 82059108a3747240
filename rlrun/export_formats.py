"""The files that a policy is exported to: how each is written, and how the program it is for plays it.

Files are read only where ``export`` has just written them: some formats have pickles inside, which could execute anything.

Shapes: B batch, O observation, U values, K action components.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported; it would keep files of its own

import numpy as np

from rlrun.plain import parse_json

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.torch_policy import GreedyPolicy

Array = np.ndarray[Any, Any]
Play = Callable[[Array], tuple[Array, Array]]
"""Observations [B, O] -> actions [B, ...] and values [B, U or K]."""

NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torchscript": (), "torch-export": (), "safetensors": ()}
"""Format -> the packages of its extra."""
_DESCRIPTION = "rlrun.json"
_OPSET = 18
"""The one that PyTorch's exporter is written in: every onnxruntime since 1.14 reads it."""


def _texts(described: Mapping[str, Any]) -> dict[str, str]:
    """The description for formats that hold texts by name."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}


def _write_onnx(module: GreedyPolicy, described: Mapping[str, Any]) -> bytes:
    import torch

    program = torch.onnx.export(
        module,
        _example(module),
        dynamo=True,
        input_names=["observation"],
        output_names=["action", module.form.values],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=_OPSET,
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # the paths of our source files on this machine
    program.model.metadata_props.update(_texts(described))
    content: bytes = program.model_proto.SerializeToString()
    return content


def _read_onnx(content: bytes) -> tuple[Play, str]:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def play(observations: Array) -> tuple[Array, Array]:
        action, values = session.run(None, {name: observations})
        return action, values

    return play, f"onnxruntime {onnxruntime.__version__}"


def _write_torchscript(module: GreedyPolicy, described: Mapping[str, Any]) -> bytes:
    import torch

    traced = torch.jit.trace(module, _example(module))  # type: ignore[no-untyped-call]
    content = io.BytesIO()
    torch.jit.save(traced, content, _extra_files={_DESCRIPTION: json.dumps(described)})
    return content.getvalue()


def _read_torchscript(content: bytes) -> tuple[Play, str]:
    import torch

    loaded = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]
    return _playing(loaded), f"torch.jit of torch {torch.__version__}"


def _write_torch_export(module: GreedyPolicy, described: Mapping[str, Any]) -> bytes:
    import torch

    program = torch.export.export(module, _example(module), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of our source files on this machine
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={_DESCRIPTION: json.dumps(described)})
    return content.getvalue()


def _read_torch_export(content: bytes) -> tuple[Play, str]:
    import torch

    return _playing(torch.export.load(io.BytesIO(content)).module()), f"torch.export of torch {torch.__version__}"


def _write_safetensors(module: GreedyPolicy, described: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    state = {name: np.ascontiguousarray(tensor.numpy(force=True)) for name, tensor in module.state_dict().items()}
    return save(state, metadata=_texts(described))


def _read_safetensors(content: bytes) -> tuple[Play, str]:
    import torch
    from safetensors.torch import load

    from rlrun.torch_policy import GreedyPolicy, form_from_plain

    length = int.from_bytes(content[:8], "little")  # of the header: the library gives it for a path only
    described = json.loads(content[8 : 8 + length])["__metadata__"]
    module = GreedyPolicy(form_from_plain(parse_json(described["policy"].encode())))
    module.load_state_dict(load(content))
    return _playing(module), f"safetensors {metadata.version('safetensors')} and torch {torch.__version__}"


def _example(module: GreedyPolicy) -> tuple[Tensor]:
    """Two observations: of one alone, an exporter may take the batch for a constant."""
    import torch

    return (torch.zeros(2, module.form.inputs),)


def _playing(module: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Play:
    import torch

    def play(observations: Array) -> tuple[Array, Array]:
        with torch.no_grad():
            action, values = module(torch.from_numpy(observations))
        return action.numpy(), values.numpy()

    return play


WRITERS: dict[str, Callable[[GreedyPolicy, Mapping[str, Any]], bytes]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "torch-export": _write_torch_export,
    "safetensors": _write_safetensors,
}
"""Format -> what gives the content of the file: written by us, a full disk is an OSError in every format."""
READERS: dict[str, Callable[[bytes], tuple[Play, str]]] = {
    "onnx": _read_onnx,
    "torchscript": _read_torchscript,
    "torch-export": _read_torch_export,
    "safetensors": _read_safetensors,
}
"""Format -> what plays the content of a file: read by us, a library that takes UTF-8 paths only serves in every folder."""


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Exporters warn of what they will change one day, and log which optional operators are missing: nothing for who exports."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
