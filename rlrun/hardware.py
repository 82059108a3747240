"""Device, threads and determinism."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits

from rlrun.config import NetworkConfig, RunConfig
from rlrun.errors import UnavailableError

WIDE = 1024  # below this width a GPU waits for the CPU to launch its work


@dataclass(frozen=True)
class Hardware:
    """Where a population computes, and by which implementation of its networks."""

    device: torch.device
    kernels: bool

    def uses_kernels(self, network: NetworkConfig) -> bool:
        """Whether this network runs on the NumPy kernels."""
        return self.kernels and not network.layer_norm

    def path(self, network: NetworkConfig) -> str:
        """The name of the implementation, for the record."""
        return "numpy" if self.uses_kernels(network) else "torch"


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
    return Hardware(device, kernels=config.hardware.kernels == "auto" and device.type == "cpu")


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
