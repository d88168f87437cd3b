"""The numbers fewtext reports, as functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # scipy.stats has it, too, but takes a second to import
from sklearn.metrics import f1_score


def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the share of predictions that equal their reference."""
    return float((np.asarray(predictions) == np.asarray(references)).mean())


def macro_f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the F1 score averaged over the classes of the references, each counting the same."""
    labels = np.unique(references)
    return float(
        f1_score(references, predictions, labels=labels, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    )


def mean_ci(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % confidence interval by Student's t; NaN for a single value.

    Few values say little about their own spread (https://doi.org/10.1093/biomet/6.1.1): of five, 1.96 standard errors
    would hold the mean in 88 % of all cases. Of many, t comes to the same.

    Of differences between two methods on the same episodes this is the paired interval.
    """
    values = np.asarray(values, dtype=float)
    spread = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(stdtrit(len(values) - 1, 0.975) * spread)


def calibration_error(probabilities: np.ndarray, references: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error (https://arxiv.org/abs/1706.04599).

    Args:
        probabilities: `[n, N]`.
        references: `[n]` class numbers.
        bins: equal-width bins of the highest probability.
    """
    probabilities, references = np.asarray(probabilities), np.asarray(references)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].mean() - confidence[which == b].mean()) * (which == b).mean() for b in set(which)]
    return float(sum(gaps))


def brier_score(probabilities: np.ndarray, references: np.ndarray) -> float:
    """Return the squared distance of the probabilities from certainty of the truth, from 0 to 2, averaged over texts.

    The score of all N classes, as in https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2.

    Args:
        probabilities: `[n, N]`.
        references: `[n]` class numbers.
    """
    probabilities, references = np.asarray(probabilities), np.asarray(references)
    own = probabilities[np.arange(len(references)), references]
    return float(((probabilities**2).sum(axis=1) - 2 * own + 1).mean())
