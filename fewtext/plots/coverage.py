"""What is gained by leaving doubtful texts to people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import roc_auc_score, roc_curve

from fewtext.errors import DataError
from fewtext.plots.style import PALE, Style, checked, drawing, named, short_names, styles

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y, and the threshold, which falls along them


def draw_coverage(
    scores: Any | Mapping[str, Any],
    right: Any | Mapping[str, Any],
    path: str | Path,
    *,
    unknown: Any = None,
    thresholds: float | Mapping[str, float] | None = None,
) -> Path:
    """Draw the share of errors among the texts that are answered over the share that is answered.

    A text is answered if its score reaches a threshold, which the curve passes through from high to low
    (https://arxiv.org/abs/1705.08500); AURC is the area below it. With texts of no class a second panel shows the
    share of them that is rejected over the share of the others that is answered.

    Args:
        scores: `[n]`, high for sure answers, or several by name.
        right: `[n]`, true for right answers; by the same names where methods answer differently.
        path: PNG, SVG or PDF file to write.
        unknown: `[n]`, true for texts of no class, which only the second panel looks at.
        thresholds: chosen on other texts, marked on the curves; by name if there are several scores.

    Raises:
        DataError: shapes or names that do not fit together, no text of the classes, or another kind of file.
    """
    sizes: dict[str, int] = {}
    sets = {name: checked(name, values, "[n]", sizes) for name, values in named("scores", scores)}
    answers = right if isinstance(right, Mapping) else dict.fromkeys(sets, right)
    limits = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(sets, thresholds)
    if lacking := sorted(sets.keys() - answers.keys()):
        raise DataError(f"right: nothing of the names {lacking}, which scores have. Name both the same.")
    outside = checked("unknown", np.zeros(sizes["n"]) if unknown is None else unknown, "[n]", sizes).astype(bool)
    if outside.all():
        raise DataError(f"unknown: all {len(outside)} texts are of no class. Give texts of the classes, too.")
    known, two = ~outside, bool(outside.any())
    with drawing(path, 11.2 if two else 5.6, 4.6, sets) as figure:
        axes = figure.subplots(1, 1 + two, squeeze=False)[0]
        axes[0].set(xlabel="texts answered, %", ylabel="wrong among them, %", title=f"{known.sum():,} texts")
        if two:
            axes[1].set(xlabel="texts of the classes answered, %", ylabel="texts of no class rejected, %")
            axes[1].set_title(f"the same and {outside.sum():,} texts of no class")
        for name, label, look in zip(sets, short_names(list(sets)), styles(), strict=False):
            values, limit = sets[name], limits.get(name)
            hits = checked(f"right, {name}", answers[name], "[n]", sizes).astype(bool)
            answered, wrong, cuts = _risk(values[known], hits[known])
            area = 100 * (wrong * np.diff(answered, prepend=0)).sum()
            _line(axes[0], f"{label}: AURC {area:.1f} %", (answered, wrong, cuts), "wrong", limit, look)
            if two:
                accepted, answered, cuts = roc_curve(known, values, drop_intermediate=False)
                curve, area = (answered, 1 - accepted, cuts), 100 * roc_auc_score(known, values)
                _line(axes[1], f"{label}: AUROC {area:.1f} %", curve, "rejected", limit, look)
        for axis in axes:
            axis.set(xlim=(0, 101), ylim=(0, None))
            axis.grid(color=PALE)
            axis.legend()
    return Path(path)


def _risk(scores: np.ndarray, hits: np.ndarray) -> Curve:
    """Return the share answered, the share of errors in it, and the threshold for it, of each distinct score."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # texts of one score are answered together
    return (last + 1) / len(scores), np.cumsum(~hits[order])[last] / (last + 1), scores[order][last]


def _line(axis: Axes, label: str, curve: Curve, verb: str, limit: float | None, look: Style) -> None:
    """Draw a curve over falling thresholds, and a mark where they pass the limit."""
    (x, y, cuts), (style, marker) = curve, look
    passed = 0 if limit is None else int((cuts >= limit).sum())
    if passed:
        label += f"\nfrom {limit:.3g}: {100 * x[passed - 1]:.1f} % answered, {100 * y[passed - 1]:.1f} % {verb}"
        style = {**style, "marker": marker, "markersize": 8, "markevery": [passed - 1]}
    axis.plot(100 * x, 100 * y, label=label, **style)
