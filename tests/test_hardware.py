"""What is recorded of the machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlrun.hardware import Hardware


@pytest.mark.parametrize("shown", [{"SIMD Extensions": {"baseline": ["X86_V2"]}}, {}], ids=["baseline", "nothing"])
def test_a_processor_without_more_than_the_baseline_of_numpy(
    shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "show_config", lambda mode: shown)
    assert Hardware("cpu", kernels=True).numerics()["numpy_simd"] == "baseline"
