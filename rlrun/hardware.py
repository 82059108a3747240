"""Device, threads and determinism."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from rlrun.config import NetworkConfig, RunConfig
from rlrun.errors import UnavailableError
from rlrun.kernels.native import library

WIDE = 1024  # below this width a GPU waits for the CPU to launch its work


@dataclass(frozen=True)
class Hardware:
    """Where a population computes, and by which implementation of its networks."""

    device: torch.device
    kernels: bool
    native: bool = False
    """Whether the kernels are helped by the C library; their bits are the same."""

    @property
    def memory(self) -> torch.device | None:
        """Where what is learned from lies: in tensors on a GPU, else (None) in NumPy arrays."""
        return None if self.device.type == "cpu" else self.device

    def uses_kernels(self, network: NetworkConfig) -> bool:
        """Whether this network runs on the NumPy kernels."""
        return self.kernels and not network.layer_norm

    def path(self, network: NetworkConfig) -> str:
        """The name of the implementation, for the record."""
        if not self.uses_kernels(network):
            return "torch"
        return "numpy and C" if self.native else "numpy"


def configure(config: RunConfig) -> Hardware:
    """Set threads and determinism for this process and choose the device.

    Raises:
        UnavailableError: the device does not exist here.
    """
    torch.set_num_threads(config.hardware.threads)
    torch.set_flush_denormal(True)  # moments of unused weights decay to denormal numbers, which are 14 times slower
    threadpool_limits(config.hardware.threads)
    device = choose_device(config.device, max(config.network.hidden))
    if device.type == "cuda" and config.hardware.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    on_cpu, choice = device.type == "cpu", config.hardware.kernels
    native = on_cpu and choice == "auto" and library() is not None
    return Hardware(device, kernels=on_cpu and choice != "plain", native=native)


def choose_device(name: str, width: int) -> torch.device:
    """The device a setting means, for networks of this width.

    Raises:
        UnavailableError: as ``configure``.
    """
    if name == "auto":
        return torch.device("cuda" if width >= WIDE and torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UnavailableError(f"device={name} but there is no CUDA device; use device=cpu or device=auto")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UnavailableError(f"device={name} but only cuda:0...cuda:{torch.cuda.device_count() - 1} exist")
    return device


class Graphed:
    """A function of tensors that on a GPU is recorded once and then replayed as one CUDA graph: one launch instead of hundreds.

    The function must not look at values, and must do the same for all inputs of one shape. Elsewhere it is just called.
    ``changes`` are the tensors it writes to besides its results: recording runs it a few times, and puts them back.
    """

    WARM_UPS = 3  # as PyTorch's documentation of CUDA graphs has it

    def __init__(self, function: Callable[..., Any], device: torch.device, changes: Sequence[Tensor] = ()) -> None:
        self._function, self._device, self._changes = function, device, changes
        self._recorded: dict[tuple[torch.Size, ...], tuple[Any, list[Tensor], Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's tensor, or tuple of tensors; fresh ones, which the next call leaves alone."""
        if self._device.type != "cuda":
            return self._function(*inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(inputs)
        graph, places, results = self._recorded[shapes]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return results.clone() if isinstance(results, Tensor) else tuple(result.clone() for result in results)

    def _record(self, inputs: Sequence[Tensor]) -> tuple[Any, list[Tensor], Any]:
        places, before = [tensor.clone() for tensor in inputs], [tensor.clone() for tensor in self._changes]
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UPS):
                self._function(*places)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # records without computing
            results = self._function(*places)
        for tensor, value in zip(self._changes, before, strict=True):
            tensor.copy_(value)
        return graph, places, results
