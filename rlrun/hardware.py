"""Device, threads and determinism."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from rlrun.config import RunConfig
from rlrun.errors import UnavailableError
from rlrun.kernels.native import library
from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_undo: ContextVar[contextlib.ExitStack] = ContextVar("undo")
"""What puts back the settings of PyTorch and of this thread; for who wants that, in ``threads_put_back``."""

WIDE = 1024  # below this width a GPU waits for the CPU to launch its work


@dataclass(frozen=True)
class Hardware:
    """Where a population computes, and by which implementation of its networks."""

    device: str
    kernels: bool
    """Whether the networks run on the NumPy kernels; then all rows are arrays, else tensors."""
    native: bool = False
    """Whether the kernels are helped by the C library; their bits are the same."""
    engine: str = "rlrun"

    @property
    def memory(self) -> str | None:
        """Where what is learned from lies: in tensors on a GPU, else (None) in NumPy arrays."""
        return None if self.device == "cpu" else self.device

    @property
    def path(self) -> str:
        """The name of the implementation, for the record."""
        if not self.kernels:
            return "torch"
        return "numpy and C" if self.native else "numpy"

    def numerics(self) -> dict[str, str]:
        """What the bits depend on besides versions, processor and settings: the code that these libraries choose here."""
        libraries = [
            info for info in threadpool_info() if "numpy" in info["filepath"]
        ]  # torch may have brought another
        simd = np.show_config(mode="dicts").get("SIMD Extensions", {})  # NumPy leaves out what is empty
        facts = {
            "libc": " ".join(platform.libc_ver()),
            "numpy_simd": " ".join(simd.get("found", ())) or "baseline",
            "blas": ", ".join(f"{info['internal_api']} {info.get('architecture')}" for info in libraries),
        }
        if not self.kernels:
            facts["torch_cpu"] = torch.backends.cpu.get_cpu_capability()
        if self.engine == "torchrl":
            facts |= {package: metadata.version(package) for package in ("torchrl", "tensordict")}
        if self.device != "cpu":
            facts["gpu"] = f"{torch.cuda.get_device_name(self.device)}, CUDA {torch.version.cuda}"
        return facts

    def place(self, array: np.ndarray[Any, Any]) -> Any:
        """An array as this implementation computes with it: itself, or a tensor on the device."""
        return array if self.kernels else torch.from_numpy(array).to(self.device)


def configure(config: RunConfig) -> Hardware:
    """Set threads and determinism for this process and choose the device.

    Raises:
        UnavailableError: the device does not exist here.
    """
    device = choose_device(config.device, max(config.network.hidden))
    network, choice = config.network, config.hardware.kernels
    own = config.engine == "rlrun" and choice != "plain"
    kernels = device == "cpu" and own and network.name == "mlp" and not network.layer_norm
    helper = library() if kernels and choice == "auto" else None
    undo = _undo.get(contextlib.ExitStack())
    # Moments of unused weights decay to denormal numbers, which are 14 times slower.
    flush_denormals = torch.set_flush_denormal if helper is None else helper.flush_denormals
    if sys.float_info.min / 2 != 0:
        undo.callback(flush_denormals, False)
    flush_denormals(True)
    if not kernels:
        undo.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(config.hardware.threads)
    threadpool_limits(config.hardware.threads)
    if device != "cpu" and config.hardware.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        undo.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import a compiler, for 2.5 s
    return Hardware(device, kernels, helper is not None, config.engine)


@contextlib.contextmanager
def threads_put_back() -> Iterator[None]:
    """Leave all that ``configure`` sets in here as it was: who calls us from Python has other plans."""
    with threadpool_limits(limits=None), contextlib.ExitStack() as undo:
        token = _undo.set(undo)
        try:
            yield
        finally:
            _undo.reset(token)


def choose_device(name: str, width: int) -> str:
    """The device a setting means, for networks of this width. Imports torch only where it may be a GPU.

    Raises:
        UnavailableError: as ``configure``.
    """
    if name == "auto":
        return "cuda" if width >= WIDE and torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UnavailableError(f"device={name} but there is no CUDA device; use device=cpu or device=auto")
        if int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
            raise UnavailableError(f"device={name} but only cuda:0...cuda:{torch.cuda.device_count() - 1} exist")
    return name


class Graphed:
    """A function of tensors that on a GPU is recorded once and then replayed as one CUDA graph: one launch instead of hundreds.

    The function must not look at values, and must do the same for all inputs of one shape. Elsewhere it is just called.
    ``changes`` are the tensors it writes to besides its results: recording runs it a few times, and puts them back.
    """

    WARM_UPS = 3  # as PyTorch's documentation of CUDA graphs has it

    def __init__(self, function: Callable[..., Any], device: str, changes: Sequence[Tensor] = ()) -> None:
        self._function, self._device, self._changes = function, device, changes
        self._recorded: dict[tuple[torch.Size, ...], tuple[Any, list[Tensor], Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's tensor, or tuple of tensors; fresh ones, which the next call leaves alone."""
        if self._device == "cpu":
            return self._function(*inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(inputs)
        graph, places, results = self._recorded[shapes]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return tuple(result.clone() for result in results) if isinstance(results, tuple) else results.clone()

    def _record(self, inputs: Sequence[Tensor]) -> tuple[Any, list[Tensor], Any]:
        places, before = [tensor.clone() for tensor in inputs], [tensor.clone() for tensor in self._changes]
        device = torch.device(self._device)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UPS):
                self._function(*places)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):  # records without computing
            results = self._function(*places)
        for tensor, value in zip(self._changes, before, strict=True):
            tensor.copy_(value)
        return graph, places, results
