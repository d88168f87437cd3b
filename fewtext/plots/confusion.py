"""Which classes are taken for which: the most confused pairs, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import confusion_matrix

from fewtext.plots.style import BLUE, PALE, checked_classes, drawing, short_names

LIMIT = 100  # classes in one matrix: more could not be read


def draw_confusion(truth: Any, guesses: Any, classes: Sequence[object], path: str | Path, *, most: int = 15) -> Path:
    """Draw the most confused pairs of classes as bars, and below them the confusion matrix.

    Classes that are confused stand side by side. Of more than 100 classes those with the most errors are shown.

    Args:
        truth: `[n]` class numbers.
        guesses: `[n]` class numbers.
        classes: `[N]` names.
        path: PNG, SVG or PDF file to write.
        most: so many pairs at most.

    Raises:
        DataError: shapes or numbers that do not fit together, or another kind of file.
    """
    sizes, count = {"N": len(classes)}, len(classes)
    truth = checked_classes("truth", truth, "[n]", sizes)
    guesses = checked_classes("guesses", guesses, "[n]", sizes)
    names, totals, wrong = short_names(classes), np.bincount(truth, minlength=count), truth != guesses
    pairs, times = np.unique(np.stack([truth, guesses])[:, wrong], axis=1, return_counts=True)
    worst = np.argsort(-times, kind="stable")[:most]
    errors = np.bincount(pairs.ravel(), np.tile(times, 2), minlength=count)
    kept = np.sort(np.lexsort((-totals, -errors))[:LIMIT])
    if count > LIMIT and wrong.any():
        kept = kept[errors[kept] > 0]
    counts = confusion_matrix(truth, guesses, labels=kept)
    order = _neighbours(counts)
    counts, kept = counts[np.ix_(order, order)], kept[order]

    cell, size = float(np.clip(6 / len(kept), 0.17, 0.5)), 9 if len(kept) <= 20 else 7
    both = len(kept) > 30  # labels on all sides, as the way to the far ones is long
    margin = (1 + both) * (0.2 + 0.0082 * size * max(len(names[number]) for number in kept)) + 0.4
    side, above = cell * len(kept), 0.5 + 0.19 * max(1, len(worst))
    with drawing(path, max(7.5, side + margin), above + side + margin, classes) as figure:
        upper, lower = figure.subplots(2, 1, height_ratios=[above, side + margin])
        _bars(upper, [(names[a], names[b], totals[a]) for a, b in pairs[:, worst].T.tolist()], times[worst])
        right = f"{100 * (1 - wrong.mean()):.1f} % of {len(truth):,} texts right, {count} classes"
        figure.suptitle(f"{right}; most confused pairs, true → guessed" if wrong.any() else right, fontsize=10)
        _matrix(lower, counts, totals[kept], [names[number] for number in kept], size, both)
        if len(kept) < count:
            lower.set_title(f"the {count - len(kept)} classes with the fewest errors are left out", loc="left")
    return Path(path)


def _bars(axis: Axes, pairs: list[tuple[str, str, Any]], times: np.ndarray) -> None:
    lines = range(len(pairs))
    axis.barh(lines, times, color=BLUE, height=0.7)
    axis.set_yticks(lines, [f"{a} → {b}" for a, b, _ in pairs], fontsize=8)
    for line, ((_, _, total), count) in enumerate(zip(pairs, times, strict=True)):
        axis.text(count, line, f" {count} of {total}", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12, y=0.01)
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(left=False, bottom=False, labelbottom=False)
    axis.set_visible(bool(pairs))


def _matrix(axis: Axes, counts: np.ndarray, totals: np.ndarray, names: list[str], size: int, both: bool) -> None:
    # Roots, so that a few errors show beside the many right answers.
    shades = np.sqrt(counts / np.maximum(totals, 1)[:, None])
    axis.pcolormesh(shades, cmap="Blues", vmin=0, vmax=1, edgecolors=PALE, linewidth=0.3)
    for row, column in np.argwhere(counts):
        colour = "white" if shades[row, column] > 0.6 else "black"
        place = (column + 0.5, row + 0.5)
        axis.annotate(f"{counts[row, column]}", place, ha="center", va="center", fontsize=size - 1, color=colour)
    ticks = np.arange(len(names)) + 0.5
    axis.set_xticks(ticks, names, rotation=90, fontsize=size)
    axis.set_yticks(ticks, names, fontsize=size)
    axis.tick_params(length=0, labeltop=both, labelright=both)
    axis.set(xlabel="guessed class", ylabel="true class", aspect="equal")
    axis.invert_yaxis()


def _neighbours(counts: np.ndarray) -> list[int]:
    """Order classes so that confused ones are neighbours.

    Every class starts as a chain; the chains of the most confused pair are joined at the ends nearer to the pair,
    then those of the next pair, until one chain is left.
    """
    chains = [[number] for number in range(len(counts))]
    first, second = np.triu_indices(len(counts), 1)
    for pair in np.argsort(-(counts + counts.T)[first, second], kind="stable"):
        a, b = int(first[pair]), int(second[pair])
        left, right = chains[a], chains[b]
        if left is right:
            continue
        if 2 * left.index(a) < len(left) - 1:
            left.reverse()
        if 2 * right.index(b) > len(right) - 1:
            right.reverse()
        left += right
        for number in right:
            chains[number] = left
    return chains[0]
