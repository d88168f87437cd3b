"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewtext.errors import DataError
from fewtext.metrics.scores import brier_score, calibration_error
from fewtext.plots.style import GREY, checked, checked_classes, drawing, named, short_names, styles

BINS = 15


def draw_reliability(probabilities: Any | Mapping[str, Any], truth: Any, path: str | Path) -> Path:
    """Draw accuracy over confidence, the highest probability (https://arxiv.org/abs/1706.04599).

    Texts are put in 15 bins of equal width, those of the expected calibration error (ECE). Each point is the mean of
    a bin with its 95 % interval (Wilson's), and steps below count its texts. Points below the diagonal are
    overconfident.

    Args:
        probabilities: `[n, N]`, or several by name, such as before and after calibration.
        truth: `[n]` class numbers.
        path: PNG, SVG or PDF file to write.

    Raises:
        DataError: shapes or numbers that do not fit together, or another kind of file.
    """
    sizes: dict[str, int] = {}
    sets = {name: checked(name, values, "[n, N]", sizes) for name, values in named("probabilities", probabilities)}
    truth = checked_classes("truth", truth, "[n]", sizes)
    for name, values in sets.items():
        if values.min() < 0 or not np.allclose(values.sum(axis=1), 1, atol=1e-2):
            raise DataError(f"{name}: probabilities from 0 to 1 with sum 1 are needed. Apply softmax to logits.")
    with drawing(path, 5.6, 6.2 + 0.2 * len(sets), sets) as figure:
        upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for name, values, (style, marker) in zip(short_names(list(sets)), sets.values(), styles(), strict=False):
            confidence, right = values.max(axis=1), values.argmax(axis=1) == truth
            bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
            counts = np.bincount(bins, minlength=BINS)
            n = counts[counts > 0]
            x, y = (np.bincount(bins, column, BINS)[counts > 0] / n for column in (confidence, right))
            ece, brier = calibration_error(values, truth, BINS), brier_score(values, truth)
            text = f"{name}: ECE {100 * ece:.1f} %, Brier score {brier:.3f}"
            upper.errorbar(x, y, yerr=_interval(y, n), marker=marker, capsize=2, label=text, **style)
            lower.stairs(counts, np.linspace(0, 1, BINS + 1), linewidth=1.5, **style)
        upper.set(ylabel="accuracy (95 % interval)", xlim=(0, 1), ylim=(0, 1.02), title=f"{len(truth):,} texts")
        lower.set(xlabel=f"confidence, {BINS} bins of equal width", ylabel="texts")
        figure.legend(loc="outside lower center")  # curves may be anywhere in the panel
    return Path(path)


def _interval(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return how far the 95 % interval of each share of a count reaches down and up, `[2, bins]`."""
    square = 1.96**2
    middle = (shares * counts + square / 2) / (counts + square)
    half = 1.96 * np.sqrt(shares * (1 - shares) * counts + square / 4) / (counts + square)
    return np.clip([shares - (middle - half), middle + half - shares], 0, None)  # rounding may leave -1e-17
