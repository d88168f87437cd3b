"""The report on the runs of full_label.py: rows of results, tables for the README, and a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import filterfalse, product
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewtext import Row
from fewtext.metrics.scores import mean_ci

Run: TypeAlias = dict[str, Any]
Cells: TypeAlias = dict[str, dict[str, list[Run]]]  # place → method → a run of each seed

MEASURES = {  # entry of a run → what the row is called, and its unit
    "accuracy": ("", "accuracy"),
    "macro_f1": (", macro-F1", "macro-F1"),
    "fit_s": (", fit", "s"),
    "texts_per_s": (", predict", "texts/s"),
    "peak_mb": (", memory", "MB"),
}
SCORES = ("accuracy", "macro_f1")  # the other measures count only of runs that are timed, if there are any
LOOKS = {  # what a point is called, its colour, and on which side of it the name stands: the quick ones are crowded
    "fewtext-plain": ("fewtext", "tab:blue", "left"),
    "fewtext-refined": ("fewtext, refined", "tab:blue", "top"),
    "frozen-logistic-regression": ("logistic regression", "grey", "bottom"),
    "frozen-logistic-regression-names": ("+ names", "grey", "right"),
    "setfit": ("SetFit", "tab:orange", "bottom"),
    "fastfit-reduced": ("FastFit,\nreduced", "tab:green", "right"),
    "fastfit-readme": ("FastFit", "tab:green", "right"),
}
COLUMNS = 2  # of the chart


def cells_of(runs: Sequence[Run]) -> Cells:
    """Return the runs of each place, `banking77/5-shot`, and method, the quickest to fit first."""
    cells: Cells = {}
    for run in runs:
        place = f"{run['set']}/{run['shots']}-shot"
        cells.setdefault(place, {}).setdefault(run["method"], []).append(run)
    return {
        place: dict(sorted(methods.items(), key=lambda item: row_of("", item[1], "fit_s").value))
        for place, methods in cells.items()
    }


def rows_of(cells: Cells) -> list[Row]:
    """Return every measure of every method, and each fewtext method's paired difference to each rival."""
    rows = []
    for place, methods in cells.items():
        for name, runs in methods.items():
            rows += [row_of(f"{place}/{name}", runs, measure) for measure in (MEASURES if timed(runs) else SCORES)]
        rows += differences(place, methods).values()
    return rows


def row_of(name: str, runs: Sequence[Run], measure: str) -> Row:
    """Return the mean of a measure over the seeds."""
    suffix, unit = MEASURES[measure]
    values = [run[measure] for run in runs if measure in SCORES or run["timed"] or not timed(runs)]
    mean, half = mean_ci(values)
    return Row(name + suffix, mean, unit, ci95=half if measure in SCORES else None, n=len(values))


def timed(runs: Sequence[Run]) -> bool:
    """Return whether any run has a time that may be compared with other methods' times."""
    return any(run["timed"] for run in runs)


def differences(place: str, methods: dict[str, list[Run]]) -> dict[tuple[str, str], Row]:
    """Return each fewtext method's accuracy minus each rival's, over the seeds that both have."""
    scores = {name: {run["seed"]: run["accuracy"] for run in runs} for name, runs in methods.items()}
    found = {}
    for ours, rival in product(filter(is_ours, methods), filterfalse(is_ours, methods)):
        if seeds := scores[ours].keys() & scores[rival].keys():
            mean, half = mean_ci([100 * (scores[ours][seed] - scores[rival][seed]) for seed in seeds])
            found[ours, rival] = Row(f"{place}/{ours} − {rival}", mean, "points", half, len(seeds))
    return found


def is_ours(method: str) -> bool:
    """Return whether a method is fewtext's."""
    return method.startswith("fewtext")


def text_of(cells: Cells) -> str:
    """Return what stands in the README: all measures, the paired differences, the rivals to fear, the settings."""
    measures = ["| | accuracy, % | macro-F1, % | fit, s | predict, texts/s | memory, MB | seeds |", "|---" * 7 + "|"]
    rivals = [name for name in LOOKS if not is_ours(name) and any(name in methods for methods in cells.values())]
    paired = [f"| difference in accuracy, points (seeds) | {' | '.join(rivals)} |", "|---" * (1 + len(rivals)) + "|"]
    for place, methods in cells.items():
        for name, runs in methods.items():
            score, f1, fit, speed, memory = (row_of("", runs, measure) for measure in MEASURES)
            costs = [
                f"{fit.value:.3g}" if fit.value < 100 else f"{fit.value:,.0f}",
                f"{speed.value:.0f}",
                f"{memory.value:,.0f}",
            ]
            numbers = [percent(score), percent(f1), *(costs if timed(runs) else map("({})".format, costs))]
            label = f"**{place}/{name}**" if is_ours(name) else f"{place}/{name}"
            measures.append(f"| {label} | {' | '.join(numbers)} | {score.n} |")
        rows = differences(place, methods)
        for ours in filter(is_ours, methods):
            found = [rows.get((ours, rival)) for rival in rivals]
            beside = " | ".join(f"{points(row)} ({row.n})" if row else "" for row in found)
            paired.append(f"| {place}/{ours} − | {beside} |")
    tables = [measures, paired] if len(paired) > 2 else [measures]
    return "\n\n".join([*map("\n".join, tables), verdict(cells), settings(cells)])


def verdict(cells: Cells) -> str:
    """Return for each place which rivals are both faster and better than a fewtext method."""
    found = []
    for place, methods in cells.items():
        quick = {name: row_of("", runs, "fit_s").value for name, runs in methods.items()}
        rows = differences(place, methods)
        feared = [
            f"{rival} than {ours} ({points(row)} points)"
            for (ours, rival), row in rows.items()
            if quick[rival] < quick[ours] and row.value < 0
        ]
        found.append(f"{place} {', '.join(feared) or ('none' if rows else 'not measured')}")
    return f"Rivals both faster and better than a fewtext method: {'; '.join(found)}."


def settings(cells: Cells) -> str:
    """Return each method's settings and versions."""
    first = {name: runs[0] for methods in cells.values() for name, runs in methods.items()}
    lines = []
    for name, run in sorted(first.items()):
        values, versions = (", ".join(f"{k} {v}" for k, v in run[key].items()) for key in ("settings", "versions"))
        lines.append(f"- {name}: {values} ({versions})")
    return "\n".join(lines)


def percent(row: Row) -> str:
    """Return a share in percent, with its interval where there is one."""
    return f"{100 * row.value:.1f}" + ("" if row.ci95 is None or math.isnan(row.ci95) else f" ± {100 * row.ci95:.1f}")


def points(row: Row) -> str:
    """Return a difference with its sign, and its interval where there is one."""
    return f"{row.value:+.1f}" + ("" if row.ci95 is None or math.isnan(row.ci95) else f" ± {row.ci95:.1f}")


def draw(cells: Cells, path: Path) -> Path:
    """Draw accuracy over fit seconds, a panel for each place."""
    height = math.ceil(len(cells) / COLUMNS)
    figure = Figure(figsize=(10, 3.2 * height), layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False).ravel()
    for axis, (place, methods) in zip(axes, cells.items(), strict=False):
        for name, runs in methods.items():
            _point(axis, name, row_of("", runs, "fit_s").value, row_of("", runs, "accuracy"))
        axis.set_title(place, fontsize=10)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(x=0.28, y=0.2)
        axis.set(xlabel="fit, CPU seconds", ylabel="accuracy, %")
    for axis in axes[len(cells) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=120)
    return path


def _point(axis: Axes, method: str, seconds: float, accuracy: Row) -> None:
    name, colour, side = LOOKS[method]
    half = 0 if accuracy.ci95 is None or math.isnan(accuracy.ci95) else accuracy.ci95
    axis.errorbar(seconds, 100 * accuracy.value, yerr=100 * half, color=colour, marker="o", capsize=3)
    end = {"top": half, "bottom": -half}.get(side, 0)
    offset = {"left": (-6, 0), "right": (6, 0), "top": (0, 4), "bottom": (0, -4)}[side]
    across = {"left": "right", "right": "left"}.get(side, "center")
    along = {"top": "bottom", "bottom": "top"}.get(side, "center")
    look = {"textcoords": "offset points", "ha": across, "va": along, "fontsize": 8, "color": colour}
    axis.annotate(name, (seconds, 100 * (accuracy.value + end)), offset, **look)
