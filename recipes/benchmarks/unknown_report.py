"""The report on the runs of unknown.py: what is measured of answers, rows of results, tables, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from full_label_report import percent, points
from sklearn.metrics import roc_auc_score

from fewtext import Row
from fewtext.metrics.scores import brier_score, calibration_error, mean_ci
from fewtext.plots import draw_coverage, draw_reliability
from fewtext.results import SHARES

Run: TypeAlias = dict[str, Any]
Cells: TypeAlias = dict[str, dict[str, list[Run]]]  # place → method → a run of each seed

OWN, NEAR = KINDS = ("out-of-scope-texts", "held-out-classes")
MEASURES = {  # entry of a run → what the row is called, and its unit
    "auroc": ("AUROC", "share"),
    "auroc_max": ("AUROC of the largest probability", "share"),
    "accuracy": ("accuracy", "accuracy"),
    "accepted": ("texts of the classes accepted", "share"),
    "accepted_right": ("accuracy, rejected texts counted as wrong", "accuracy"),
    "rejected": ("unknown texts rejected", "share"),
    "rejected_95": ("unknown texts rejected, 95 % accepted", "share"),
    "rejected_95_max": ("unknown texts rejected, 95 % accepted, by the largest probability", "share"),
    "ece": ("ECE", "share"),
    "ece_before": ("ECE without temperature", "share"),
    "brier": ("Brier score", "score"),
    "brier_before": ("Brier score without temperature", "score"),
    "covered_90": ("sets for 90 % hold the label", "share"),
    "size_90": ("labels in a set for 90 %", "labels"),
    "covered_95": ("sets for 95 % hold the label", "share"),
    "size_95": ("labels in a set for 95 %", "labels"),
}
RIVALS = ("frozen-logistic-regression-names", "setfit")
NAMES = dict(zip(("fewtext", *RIVALS), ("fewtext", "logistic regression", "SetFit"), strict=True))  # in pictures
LARGEST = "fewtext, its probability"
COLUMNS = {  # of the README's tables: a measure, and one that follows in brackets
    "AUROC, %": ("auroc", "auroc_max"),
    "rejected at 95 %, %": ("rejected_95", "rejected_95_max"),
    "accepted, %": ("accepted",),
    "rejected, %": ("rejected",),
    "accuracy, %": ("accuracy", "accepted_right"),
    "ECE, %": ("ece", "ece_before"),
    "Brier": ("brier", "brier_before"),
}
SETS = {
    "90 % sets that are right, %": ("covered_90",),
    "labels in one": ("size_90",),
    "95 % sets that are right, %": ("covered_95",),
    "labels in one of these": ("size_95",),
}


@dataclass(frozen=True)
class Answers:
    """What a method says about the texts asked.

    Attributes:
        probabilities: `[n, N]`.
        scores: `[n]`, high for texts of the classes.
        threshold: texts that score less are rejected; NaN of methods that have none.
        temperature: of the probabilities.
        sets: what was measured of prediction sets.
    """

    probabilities: np.ndarray
    scores: np.ndarray
    threshold: float = math.nan
    temperature: float = 1.0
    sets: dict[str, float] = field(default_factory=dict)

    @classmethod
    def plain(cls, probabilities: np.ndarray) -> Answers:
        """Return answers of a method that has nothing but probabilities."""
        return cls(probabilities, probabilities.max(axis=1))


def measured(answers: Answers, labels: np.ndarray) -> Run:
    """Return the measures of one run; the first texts asked are those of the classes, with these labels."""
    count = len(labels)
    chances, known = answers.probabilities[:count], np.arange(len(answers.probabilities)) < count
    right = chances.argmax(axis=1) == labels
    found: Run = {"accuracy": right.mean(), "ece": calibration_error(chances, labels)}
    found |= {"brier": brier_score(chances, labels), **answers.sets}
    own = not math.isnan(answers.threshold)
    for suffix, values in [("", answers.scores), ("_max", answers.probabilities.max(axis=1))][: 1 + own]:
        found[f"auroc{suffix}"] = roc_auc_score(known, values)
        found[f"rejected_95{suffix}"] = (values[~known] < np.quantile(values[known], 0.05)).mean()
    if own:
        accepted, before = answers.scores >= answers.threshold, cold(chances, answers.temperature)
        found |= {"accepted": accepted[known].mean(), "accepted_right": (accepted[known] & right).mean()}
        found |= {"rejected": 1 - accepted[~known].mean(), "temperature": answers.temperature}
        found |= {"ece_before": calibration_error(before, labels), "brier_before": brier_score(before, labels)}
    return {name: float(value) for name, value in found.items()}


def cold(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities before a temperature."""
    return torch.from_numpy(probabilities).log().mul(temperature).softmax(dim=1).numpy()


def place_of(run: Run) -> str:
    """Return where a run was measured: `clinc150/5-shot/out-of-scope-texts`."""
    return f"{run['set']}/{run['shots']}-shot/{run['kind']}"


def cells_of(runs: Sequence[Run]) -> Cells:
    """Return the runs of each place and method."""
    cells: Cells = {}
    for run in sorted(runs, key=lambda run: (KINDS.index(run["kind"]), run["set"], run["shots"], run["method"])):
        cells.setdefault(place_of(run), {}).setdefault(run["method"], []).append(run)
    return cells


def rows_of(cells: Cells) -> list[Row]:
    """Return every measure of every method, and how far fewtext's AUROC is above each rival's."""
    rows = []
    for place, methods in cells.items():
        for method, runs in methods.items():
            rows += [row_of(f"{place}/{method}", runs, measure) for measure in MEASURES if measure in runs[0]]
        rows += [difference(place, methods, rival) for rival in RIVALS if rival in methods and "fewtext" in methods]
    return rows


def row_of(name: str, runs: Sequence[Run], measure: str) -> Row:
    """Return the mean of a measure over the seeds."""
    words, unit = MEASURES[measure]
    mean, half = mean_ci([run[measure] for run in runs])
    return Row(f"{name}, {words}", mean, unit, half, len(runs))


def difference(place: str, methods: dict[str, list[Run]], rival: str) -> Row:
    """Return fewtext's minus the rival's AUROC over the seeds that both have."""
    own, other = ({run["seed"]: run["auroc"] for run in methods[name]} for name in ("fewtext", rival))
    pairs = [100 * (own[seed] - other[seed]) for seed in own.keys() & other.keys()]
    mean, half = mean_ci(pairs)
    return Row(f"{place}/fewtext − {rival}, AUROC", mean, "points", half, len(pairs))


def text_of(cells: Cells) -> str:
    """Return what stands in the README: unknown texts and probabilities, prediction sets, paired differences."""
    tables = []
    for columns in (COLUMNS, SETS):
        lines = [f"| | {' | '.join(columns)} | seeds |", "|---" * (len(columns) + 2) + "|"]
        for place, methods in cells.items():
            for method, runs in methods.items():
                if any(shown := [cell(runs, *measures) for measures in columns.values()]):
                    label = f"**{place}/{method}**" if method.startswith("fewtext") else f"{place}/{method}"
                    lines.append(f"| {label} | {' | '.join(shown)} | {len(runs)} |")
        tables.append("\n".join(lines))
    paired = [f"| {row.name} | {points(row)} | {row.n} |" for row in rows_of(cells) if row.unit == "points"]
    return "\n\n".join([*tables, "\n".join(["| paired difference, points | | seeds |", "|---" * 3 + "|", *paired])])


def cell(runs: Sequence[Run], measure: str, beside: str = "") -> str:
    """Return the mean of a measure with its interval, and of another one in brackets, if they were measured."""
    rows = [row_of("", runs, name) for name in (measure, beside) if name in runs[0]]
    words = [percent(row) if row.unit in SHARES else f"{row.value:.2f}" for row in rows]
    return " ".join([*words[:1], *(f"({word})" for word in words[1:])])


def draw(answers: Path, folder: Path) -> None:
    """Draw errors over coverage, unknown texts rejected, and reliability, of the answers kept in a folder."""
    kept = {name: np.load(file) for key, name in NAMES.items() if (file := answers / f"{key}.npz").is_file()}
    if "fewtext" not in kept:
        return
    labels, temperature, threshold = (kept["fewtext"][entry] for entry in ("labels", "temperature", "threshold"))
    chances = {name: file["probabilities"] for name, file in kept.items()}
    scores = {name: file["scores"] for name, file in kept.items()}
    chances[LARGEST], scores[LARGEST] = chances["fewtext"], chances["fewtext"].max(axis=1)
    unknown = np.arange(len(scores[LARGEST])) >= len(labels)
    right = {name: values.argmax(axis=1) == np.resize(labels, len(unknown)) for name, values in chances.items()}
    limits = {"fewtext": threshold.item()}
    draw_coverage(scores, right, folder / "unknown_coverage.png", unknown=unknown, thresholds=limits)
    known = {name: values[~unknown] for name, values in chances.items() if name != LARGEST}
    known["fewtext, temperature 1"] = cold(known["fewtext"], temperature.item())
    draw_reliability(known, labels, folder / "unknown_reliability.png")
