"""The optional C half of the kernels: ``native.c``, compiled once for this machine where there is a compiler.

It calls the very BLAS that NumPy brings, in the same order, so its results are NumPy's bit for bit; it only spares the time between the
matrix products. Whatever is missing (a compiler, that BLAS, a place to keep the library), NumPy does all the work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

Array = np.ndarray[Any, Any]

_SOURCE = Path(__file__).with_name("native.c")
# No contraction: a fused multiply-add would round once where NumPy rounds twice.
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")
_COMPILE_SECONDS = 60.0
_INTEGERS = ctypes.POINTER(ctypes.c_int64)
_ARRAYS = ctypes.POINTER(ctypes.c_void_p)


class _Stack(ctypes.Structure):
    """``stack`` of native.c."""

    _fields_ = [
        ("gemm", ctypes.c_void_p),
        ("gemv", ctypes.c_void_p),
        ("dot", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("agents", "batch", "layers", "row_length", "relu")),
        *((name, _INTEGERS) for name in ("sizes", "weights", "biases")),
        *((name, ctypes.c_void_p) for name in ("parameters", "gradients")),
        *((name, _ARRAYS) for name in ("activations", "slopes")),
        ("ones", ctypes.c_void_p),
    ]


class _AdamRow(ctypes.Structure):
    """``adam_row`` of native.c."""

    _fields_ = [
        ("size", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("parameters", "gradients", "first", "second", "largest")),
        *((name, ctypes.c_float) for name in ("beta1", "rest1", "beta2", "rest2", "epsilon")),
    ]


class NativeAdam:
    """Adam's step on one row of parameters."""

    def __init__(self, library: ctypes.CDLL, rows: Sequence[Array | None], constants: Sequence[float]) -> None:
        """``rows``: parameters, gradients, first and second moment, and largest second moment or None, each [P];
        ``constants``: beta1, 1 - beta1, beta2, 1 - beta2, epsilon."""
        self._arrays = rows  # their memory must last
        first = rows[0]
        assert first is not None
        self._row = _AdamRow(len(first), *(None if row is None else address(row) for row in rows), *constants)
        self._step, self._reference = library.adam_step, ctypes.byref(self._row)

    def step(self, keep: float, rate: float, root: float, limit: float, scale: float) -> None:
        """As ``optim.Adam.step`` explains them."""
        self._step(self._reference, keep, rate, root, limit, scale)


class NativeStack:
    """The C half for one batch size of one stack of networks."""

    def __init__(
        self,
        library: ctypes.CDLL,
        weights: Sequence[Array],
        biases: Sequence[Array],
        gradients: Sequence[Array] | None,
        activations: Sequence[Array],
        slopes: Sequence[Array],
        ones: Array,
        relu: bool,
    ) -> None:
        """``weights`` [A, I, O] and ``biases`` [A, 1, O] of every layer, the head's last; ``gradients``: those of the weights.

        ``activations``: [A, B, O] of every layer; ``slopes``: of every layer but the head; ``ones``: [1, B].
        """
        agents, batch = activations[0].shape[:2]
        start = address(weights[0])
        gemm, gemv, dot = _blas()
        self._stack = _Stack(
            gemm=gemm,
            gemv=gemv,
            dot=dot,
            relu=relu,
            agents=agents,
            batch=batch,
            layers=len(weights) - 1,
            row_length=weights[0].strides[0] // 4,
            sizes=_integers([weights[0].shape[1], *(weight.shape[2] for weight in weights)]),
            weights=_integers([(address(weight) - start) // 4 for weight in weights]),
            biases=_integers([(address(bias) - start) // 4 for bias in biases]),
            parameters=start,
            gradients=None if gradients is None else address(gradients[0]),
            activations=_addresses(activations),
            slopes=_addresses(slopes),
            ones=address(ones),
        )
        self._arrays = [*weights, *biases, *(gradients or []), *activations, *slopes, ones]  # their memory must last
        self._forward, self._backward, self._reference = library.forward, library.backward, ctypes.byref(self._stack)

    def forward(self, x: Array) -> None:
        """Fill the activations of ReLU networks from inputs [A, B, I], I > 1."""
        assert x.dtype == np.float32
        self._forward(self._reference, address(x), x.strides[0] // 4, x.strides[1] // 4)

    def backward(self, x: Array, output_gradient: Array) -> None:
        """Fill the gradients, from that of the outputs of ``x``, whose activations are as the forward pass left them. B > 1."""
        assert x.dtype == output_gradient.dtype == np.float32
        self._backward(self._reference, address(x), x.strides[0] // 4, x.strides[1] // 4, address(output_gradient))


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library; None where something is missing."""
    try:
        loaded = ctypes.CDLL(str(_compiled()))
        _blas()
    except (OSError, RuntimeError, StopIteration, AttributeError, subprocess.SubprocessError):  # RuntimeError: no home
        return None
    stack, numbers = ctypes.POINTER(_Stack), [ctypes.c_float] * 5
    loaded.forward.argtypes = (stack, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    loaded.backward.argtypes = (stack, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    loaded.adam_step.argtypes = (ctypes.POINTER(_AdamRow), *numbers)
    loaded.move_towards.argtypes = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float)
    loaded.flush_denormals.argtypes = (ctypes.c_int64,)
    for function in (loaded.forward, loaded.backward, loaded.adam_step, loaded.move_towards, loaded.flush_denormals):
        function.restype = None
    return loaded


@functools.cache
def _blas() -> tuple[int | None, ...]:
    """Addresses of sgemm, sgemv and sdot, with 64-bit integers, in the BLAS of NumPy's wheels."""
    path = next(info["filepath"] for info in threadpool_info() if "scipy_openblas64_" in info["filepath"])
    blas = ctypes.CDLL(path)
    functions = (blas.scipy_cblas_sgemm64_, blas.scipy_cblas_sgemv64_, blas.scipy_cblas_sdot64_)
    return tuple(ctypes.cast(function, ctypes.c_void_p).value for function in functions)


def _compiled() -> Path:
    """The library's file in the user's cache, compiled now if it is not there. Raises OSError, SubprocessError."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rlrun")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(folder)
    key = "\n".join((_SOURCE.read_text(encoding="utf-8"), *_FLAGS, compiler, platform.machine(), _processor()))
    path = folder / f"native_{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:  # several runs may start at once: the last one wins
            built = Path(place, path.name)
            command = [compiler, *_FLAGS, "-o", str(built), str(_SOURCE)]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS, stdin=subprocess.DEVNULL)
            built.chmod(0o700)  # whatever the umask is
            built.rename(path)
    _check_private(path)
    return path


def _check_private(path: Path) -> None:
    """Raises PermissionError for what somebody else could have written: it is about to be executed."""
    status = path.lstat()
    if status.st_uid != os.geteuid() or stat.S_ISLNK(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} is not ours alone")


def _processor() -> str:
    """What the compiler adapts to with -march=native: home folders are shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def address(array: Array) -> int:
    """Where an array's memory begins."""
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def _addresses(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * max(len(arrays), 1))(*map(address, arrays))


def _integers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)
