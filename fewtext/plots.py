"""Pictures of results; needs the `plots` extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewtext.errors import FewtextError
from fewtext.results import Row

try:
    from matplotlib.figure import Figure  # the object API: no window system, no global state
except ImportError as error:
    raise FewtextError("pictures need matplotlib. Run `pip install 'fewtext[plots]'`.") from error


def draw_accuracy(rows: Sequence[Row], path: str | Path) -> Path:
    """Draw accuracies with their 95 % intervals, one bar per method and one panel per kind of episode.

    Args:
        rows: results whose names end in the method; methods that start with `frozen` are drawn in grey.
        path: PNG, SVG or PDF file to write.
    """
    measured = [row for row in rows if row.unit == "accuracy" and row.ci95 is not None]
    panels: dict[str, list[Row]] = {}
    for row in measured:
        panels.setdefault(row.name.rsplit("/", 1)[0], []).append(row)
    tallest = max(map(len, panels.values()), default=1)
    figure = Figure(figsize=(8, (0.3 * tallest + 0.9) * max(1, len(panels))), layout="constrained")
    axes = figure.subplots(max(1, len(panels)), 1, squeeze=False)[:, 0]
    for axis, (place, bars) in zip(axes, panels.items(), strict=False):
        bars = bars[::-1]
        names = [row.name.rsplit("/", 1)[1] for row in bars]
        colours = ["lightgrey" if name.startswith("frozen") else "tab:blue" for name in names]
        values = [100 * row.value for row in bars]
        errors = [100 * (row.ci95 or 0) for row in bars]
        axis.barh(names, values, xerr=errors, color=colours)
        for position, (value, error) in enumerate(zip(values, errors, strict=True)):
            axis.text(value + error + 1, position, f"{value:.1f}", va="center", fontsize=8)
        axis.set_title(place, fontsize=10)
        axis.set_xlim(0, 108)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("accuracy, % (with 95 % confidence interval)")
    figure.savefig(path, dpi=120)
    return Path(path)


def draw_history(
    steps: Sequence[tuple[int, float, float]], validations: Sequence[tuple[int, float, float]], path: str | Path
) -> Path:
    """Draw a training run: loss and accuracy of each step, and the validations with their 95 % intervals.

    Args:
        steps: `(step, loss, accuracy)`.
        validations: `(step, accuracy, ci95)`.
        path: PNG, SVG or PDF file to write.
    """
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = [step + 1 for step, _, _ in steps]
    left.plot(numbers, [loss for _, loss, _ in steps], color="tab:blue", linewidth=1)
    left.set(xlabel="meta-step", ylabel="training loss")
    right.plot(
        numbers, [100 * hits for _, _, hits in steps], color="lightgrey", linewidth=1, label="training episodes"
    )
    if validations:
        places, values, errors = zip(
            *((step, 100 * value, 100 * half) for step, value, half in validations), strict=True
        )
        right.errorbar(
            places, values, yerr=errors, color="tab:blue", marker="o", capsize=3, label="validation classes"
        )
    right.set(xlabel="meta-step", ylabel="accuracy, %")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return Path(path)
