"""The fastest exact matrix products this processor has.

PyTorch's default path for float32 products on a CPU (MKL) reaches less than half of what oneDNN does on some
processors. Weights that stay as they are reach oneDNN packed (frozen_linear.py); for the others
`torch.backends.mkldnn.matmul.fp32_precision` routes products there, which on some processors really computes in
bfloat16. So it is tried once, for speed and for exactness, and only ever set within a scope.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

TOLERANCE = 1e-5  # relative; float32 products differ by about 1e-6 between libraries, bfloat16 ones by 4e-3
TRIALS = 5
ROWS = 256  # of a trial: enough to tell the two apart, few enough that the first answer does not wait for it
_FAST = ContextVar("fast_matmul", default=False)


@contextmanager
def fast_matmul(use: bool | None = None, *, trained: bool = False) -> Iterator[None]:
    """Within this scope float32 products on the CPU take the faster path, where it is as exact.

    Args:
        use: take it or not; by default what `onednn_pays` says.
        trained: also those with weights that are being trained; the switch for that holds for the whole process, and
            small products are not faster for it.
    """
    if not (onednn_pays() if use is None else use):
        yield
        return
    token = _FAST.set(True)
    try:
        with _path("bf16") if trained else nullcontext():
            yield
    finally:
        _FAST.reset(token)


def is_fast() -> bool:
    """Return whether this is within a `fast_matmul` scope that takes the faster path."""
    return _FAST.get()


@cache
def onednn_is_exact() -> bool:
    """Return whether float32 products stay exact on oneDNN: a fact of the processor, the same at every call."""
    if not torch.backends.mkldnn.is_available():
        return False
    left, right = _factors()
    exact = left.double() @ right.double()
    with _path("bf16"):
        product = left @ right
    return bool((product - exact).norm() / exact.norm() < TOLERANCE)


@cache
def onednn_pays() -> bool:
    """Return whether oneDNN is exact and the faster of the two, by timing both in turn."""
    if not onednn_is_exact():
        return False
    left, right = _factors()
    seconds: dict[str, list[float]] = {"ieee": [], "bf16": []}
    for _ in range(TRIALS):  # in turn, so that other work on the machine slows both
        for path, trials in seconds.items():
            with _path(path):
                start = time.perf_counter()
                _ = left @ right
                trials.append(time.perf_counter() - start)
    return min(seconds["bf16"]) < min(seconds["ieee"])


@contextmanager
def _path(precision: str) -> Iterator[None]:
    switch = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before = switch.fp32_precision
    switch.fp32_precision = precision
    try:
        yield
    finally:
        switch.fp32_precision = before


def _factors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((ROWS, 384), generator=generator), torch.randn((384, 1536), generator=generator)
