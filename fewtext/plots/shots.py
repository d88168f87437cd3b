"""Accuracy over the number of texts per class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from fewtext.errors import DataError
from fewtext.plots.spread import spread
from fewtext.plots.style import BLUE, GREY, PALE, drawing, short_names, styles
from fewtext.results import Row

NAME = re.compile(r"(.+)/(\d+)-shot/([^/]+)")


def draw_shots(rows: Sequence[Row], path: str | Path, *, own: str = "fewtext") -> Path:
    """Draw accuracy over the number of shots with 95 % intervals, one line per method and one panel per set.

    Args:
        rows: accuracies named `<set>/<k>-shot/<method>`; others are passed over.
        path: PNG, SVG or PDF file to write.
        own: methods that start with this are drawn in blue, the others in grey.

    Raises:
        DataError: no row of such a name, or another kind of file.
    """
    panels: dict[str, dict[str, list[tuple[int, Row]]]] = {}
    for row in rows:
        if row.unit == "accuracy" and (parts := NAME.fullmatch(row.name)):
            place, shots, method = parts.groups()
            panels.setdefault(place, {}).setdefault(method, []).append((int(shots), row))
    if not panels:
        raise DataError(f"none of {len(rows)} rows is an accuracy named `<set>/<k>-shot/<method>`. Name them so.")
    columns, width = (3, 4.4) if len(panels) % 3 == 0 else (min(2, len(panels)), 5.6)  # 3 leave no place empty
    lines = -(-len(panels) // columns)
    with drawing(path, width * columns, 3.8 * lines, [row.name for row in rows]) as figure:
        axes = figure.subplots(lines, columns, squeeze=False).flatten()
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for axis, title, methods in zip(axes, short_names(list(panels), 60), panels.values(), strict=False):
            axis.set(title=title, xlabel="texts per class", ylabel="accuracy, % (95 % interval)")
            _panel(axis, methods, own)
    return Path(path)


def _panel(axis: Axes, methods: dict[str, list[tuple[int, Row]]], own: str) -> None:
    ends, ticks = [], set()
    for (method, points), (style, marker) in zip(methods.items(), styles(), strict=False):
        shots, rows = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        values, errors = [100 * row.value for row in rows], [100 * (row.ci95 or 0) for row in rows]
        ours = method.startswith(own)
        style |= {"color": BLUE, "linewidth": 2, "zorder": 3} if ours else {"color": GREY, "linewidth": 1}
        # 0 shots have a place on this scale, too.
        axis.errorbar(np.log2(np.add(shots, 1)), values, yerr=errors, marker=marker, markersize=4, capsize=2, **style)
        ends.append((np.log2(shots[-1] + 1), values[-1]))
        ticks |= set(shots)
    axis.set_xticks(np.log2(np.add(sorted(ticks), 1)), [f"{shots}" for shots in sorted(ticks)])
    axis.grid(axis="y", color=PALE)
    _label_ends(axis, np.array(ends), list(methods), own)


def _label_ends(axis: Axes, ends: np.ndarray, methods: list[str], own: str) -> None:
    low, high = axis.get_ylim()
    line = 0.055 * (high - low)  # a label's height
    right = ends[:, 0].max()
    centres = np.stack([np.zeros(len(ends)), ends[:, 1]], axis=1)
    sizes = np.tile([1e6 * line, line], (len(ends), 1))  # so wide that they part up and down
    places = spread(centres, sizes, (0, low), (0, high))[:, 1]
    for (x, y), place, name, method in zip(ends, places, short_names(methods), methods, strict=True):
        colour = BLUE if method.startswith(own) else GREY
        axis.annotate(
            name,
            (x, y),
            (right + 0.18, place),
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 4},
        )
