"""Labels that do not cover each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def spread(centres: np.ndarray, sizes: np.ndarray, low: ArrayLike, high: ArrayLike, steps: int = 500) -> np.ndarray:
    """Move boxes apart the shorter way until none overlaps; where there is no room for all, some still do.

    Args:
        centres: `[n, 2]` of the boxes.
        sizes: `[n, 2]` widths and heights.
        low: corner of the frame that no centre leaves.
        high: the opposite corner.
        steps: so many small moves at most.
    """
    places, reach = centres.astype(float), (sizes[:, None] + sizes[None]) / 2
    earlier = np.tri(len(places), k=-1) - np.tri(len(places), k=-1).T  # which way boxes at one place part
    for _ in range(steps):
        gaps = places[:, None] - places[None]
        overlaps = reach - np.abs(gaps)
        hit = (overlaps > 1e-9 * reach).all(axis=2) & (earlier != 0)
        if not hit.any():
            break
        ways = np.where(gaps == 0, earlier[:, :, None], np.sign(gaps))
        shorter = overlaps == overlaps.min(axis=2, keepdims=True)
        pushes = np.where(shorter & hit[:, :, None], 0.3 * overlaps * ways, 0)
        places = np.clip(places + pushes.sum(axis=1), low, high)
    return places
