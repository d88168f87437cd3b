"""Accuracies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewtext.plots.style import BLUE, drawing, short_names
from fewtext.results import Row


def draw_accuracy(rows: Sequence[Row], path: str | Path) -> Path:
    """Draw accuracies with their 95 % intervals, one bar per method and one panel per kind of episode.

    Args:
        rows: results whose names end in the method; methods that start with `frozen` are drawn in grey.
        path: PNG, SVG or PDF file to write.

    Raises:
        DataError: another kind of file.
    """
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row.unit == "accuracy" and row.ci95 is not None:
            panels.setdefault(row.name.rsplit("/", 1)[0], []).append(row)
    tallest = max(map(len, panels.values()), default=1)
    count = max(1, len(panels))
    with drawing(path, 8, (0.3 * tallest + 0.9) * count, [row.name for row in rows]) as figure:
        axes = figure.subplots(count, 1, squeeze=False)[:, 0]
        for axis, title, bars in zip(axes, short_names(list(panels), 90), panels.values(), strict=False):
            bars = bars[::-1]
            names = [row.name.rsplit("/", 1)[1] for row in bars]
            colours = ["lightgrey" if name.startswith("frozen") else BLUE for name in names]
            values, errors = [100 * row.value for row in bars], [100 * (row.ci95 or 0) for row in bars]
            axis.barh(range(len(bars)), values, xerr=errors, color=colours)
            axis.set_yticks(range(len(bars)), short_names(names, 60))
            for position, (value, error) in enumerate(zip(values, errors, strict=True)):
                axis.text(value + error + 1, position, f"{value:.1f}", va="center", fontsize=8)
            axis.set(title=title, xlim=(0, 108))
            axis.tick_params(labelsize=8)
        axes[-1].set_xlabel("accuracy, % (with 95 % confidence interval)")
    return Path(path)
