"""A training run, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewtext.plots.style import BLUE, drawing


def draw_history(
    steps: Sequence[tuple[int, float, float]], validations: Sequence[tuple[int, float, float]], path: str | Path
) -> Path:
    """Draw a training run: loss and accuracy of each step, and the validations with their 95 % intervals.

    Args:
        steps: `(step, loss, accuracy)`.
        validations: `(step, accuracy, ci95)`.
        path: PNG, SVG or PDF file to write.

    Raises:
        DataError: another kind of file.
    """
    with drawing(path, 8, 3.2) as figure:
        left, right = figure.subplots(1, 2)
        numbers = [step + 1 for step, _, _ in steps]
        left.plot(numbers, [loss for _, loss, _ in steps], color=BLUE, linewidth=1)
        left.set(xlabel="meta-step", ylabel="training loss")
        hits = [100 * share for _, _, share in steps]
        right.plot(numbers, hits, color="lightgrey", linewidth=1, label="training episodes")
        if validations:
            places, values, errors = zip(*((step, 100 * v, 100 * half) for step, v, half in validations), strict=True)
            right.errorbar(places, values, yerr=errors, color=BLUE, marker="o", capsize=3, label="validation classes")
        right.set(xlabel="meta-step", ylabel="accuracy, %")
        right.legend()
    return Path(path)
