"""What is recorded of the machine, and what is set in this process and put back."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from support import config_of

from rlrun import hardware
from rlrun.hardware import Hardware, configure, threads_put_back


@pytest.mark.parametrize("shown", [{"SIMD Extensions": {"baseline": ["X86_V2"]}}, {}], ids=["baseline", "nothing"])
def test_a_processor_without_more_than_the_baseline_of_numpy(
    shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "show_config", lambda mode: shown)
    assert Hardware("cpu", kernels=True).numerics()["numpy_simd"] == "baseline"


@pytest.mark.parametrize("before", [0, 1])
def test_determinism_and_threads_of_torch_are_put_back(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings() -> tuple[int, int]:
        return torch.get_deterministic_debug_mode(), torch.get_num_threads()

    threads = torch.get_num_threads()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(hardware, "choose_device", lambda name, width: "cuda")
    torch.set_deterministic_debug_mode(before)
    torch.set_num_threads(3)
    try:
        with threads_put_back():
            configure(config_of())
            assert settings() == (2, 1)
            with threads_put_back():  # an environment that plays with a trained policy
                configure(config_of())
            assert settings() == (2, 1) and sys.float_info.min / 2 == 0
        assert settings() == (before, 3) and sys.float_info.min / 2 != 0
    finally:
        torch.set_deterministic_debug_mode(0)
        torch.set_num_threads(threads)
