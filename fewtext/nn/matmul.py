"""The fastest exact matrix products this processor has.

PyTorch's default path for float32 products on a CPU (MKL) reaches less than half of what oneDNN does on some
processors. `torch.backends.mkldnn.matmul.fp32_precision` routes them to oneDNN; on others the same switch really
computes in bfloat16. So it is tried once, for speed and for exactness, and only ever set within a scope.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

TOLERANCE = 1e-5  # relative; float32 products differ by about 1e-6 between libraries, bfloat16 ones by 4e-3


@contextmanager
def fast_matmul(use: bool | None = None) -> Iterator[None]:
    """Within this scope float32 products on the CPU take the faster path, where it is as exact.

    Args:
        use: take it or not; by default what `onednn_pays` says.
    """
    switch = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before = switch.fp32_precision
    if onednn_pays() if use is None else use:
        switch.fp32_precision = "bf16"
    try:
        yield
    finally:
        switch.fp32_precision = before


@cache
def onednn_pays() -> bool:
    """Return whether oneDNN is both faster than the default path and as exact, by trying it once."""
    if not torch.backends.mkldnn.is_available():
        return False
    switch = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in ((1024, 384), (384, 1536)))
    seconds, products, before = {}, {}, switch.fp32_precision
    try:
        for path in ("ieee", "bf16"):
            switch.fp32_precision = path
            trials = []
            for _ in range(5):
                start = time.perf_counter()
                products[path] = left @ right
                trials.append(time.perf_counter() - start)
            seconds[path] = min(trials)
    finally:
        switch.fp32_precision = before
    exact = left.double() @ right.double()
    error = (products["bf16"] - exact).norm() / exact.norm()
    return bool(error < TOLERANCE) and seconds["bf16"] < seconds["ieee"]
