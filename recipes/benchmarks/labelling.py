"""How many labels it takes: texts to label chosen by `fewtext.suggest`, beside random ones.

    python recipes/benchmarks/labelling.py --data-root data

The unlabelled texts are the official training rows, accuracy is that on the official test rows. Labelling starts with
one random text of each class, or of half of the classes, drawn anew with each seed, and goes on in rounds of as many
texts as there are classes; the first label of a class makes it known. The classifier is that of `fewtext fit`:
logistic regression (C=100) on the encoder as it is, each known label's words one more text of its class. The
strategies and their constants were chosen on hwu64 and liu54.

Intervals are 95 %, by Student's t over seeds; differences and quotients are paired by seed. `labels` says how many it
takes to be as accurate as 5 random ones per class are in the mean, between rounds by linear interpolation; a strategy
that does not get there with every seed has no such row. Each finished run is a line of `results/labelling.jsonl`, and
a restart skips what is there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, TypeAlias

import datasets
import numpy as np
import tyro
from material import load_material
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from transformers.utils.logging import disable_progress_bar

from fewtext import Encoder, LabeledTexts, Row, write_results
from fewtext.metrics.scores import mean_ci
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pretrained import MINILM
from fewtext.suggest import Strategy, suggest

RESULTS = Path(__file__).parent / "results" / "labelling.json"
Way: TypeAlias = Literal["random"] | Strategy
RANDOM, GOAL = "random", 5
SHOWN = (2, 3, GOAL, 10)  # labels per class that have rows
STARTS = {"all": "all classes known", "half": "half of the classes known"}
COLOURS = {
    RANDOM: "dimgrey",
    "suggest-mixed": "tab:blue",
    "suggest-coverage": "tab:orange",
    "suggest-margin": "tab:purple",
    "suggest-unknown": "tab:green",
}
Key = tuple[str, str, str]  # card, start, strategy
Curves = Mapping[Key, np.ndarray]  # accuracy and classes known, `[seeds, rounds, 2]`


@dataclass(frozen=True)
class Task:
    """Unit embeddings and labels: what may be labelled, what is asked, and the labels' words."""

    vectors: np.ndarray
    labels: np.ndarray
    queries: np.ndarray
    answers: np.ndarray
    names: np.ndarray


def main(
    *,
    cards: tuple[str, ...] = ("banking77", "clinc150"),
    strategies: tuple[Way, ...] = ("random", "mixed", "coverage", "margin", "unknown"),
    seeds: int = 5,
    most: int = 10,
    data_root: Path | None = None,
    base: str = MINILM,
    quick: bool = False,
    out: Path = RESULTS,
) -> None:
    """Label with each strategy, and write how accuracy grows.

    Args:
        cards: data cards with official training and test rows.
        strategies: `random` and those of `fewtext.suggest`.
        seeds: runs of each strategy.
        most: labels per class, in the mean, at the end.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        quick: few classes of the embedded corpus, two seeds and 3 labels per class, to see that everything runs.
        out: file of the results; the picture and the runs go beside it.
    """
    if quick:
        cards, seeds, most = ("everyday",), 2, 3
    file, runs = out.with_suffix(".jsonl"), dict[tuple[Key, int], list[list[float]]]()
    if file.is_file():
        runs = {(tuple(run["of"]), run["seed"]): run["curve"] for run in map(json.loads, file.open(encoding="utf-8"))}
    file.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, Way] = {name if name == RANDOM else f"suggest-{name}": name for name in strategies}
    sizes = {}
    for card in cards:
        material = load_material(card, data_root, base, quick=quick)
        sizes[card], task = len(material.train.classes), None
        for seed, start, name in product(range(seeds), STARTS, names):
            if ((card, start, name), seed) not in runs:
                task = task or _task(Encoder.from_pretrained(material.base), material.train, material.test)
                found = runs[(card, start, name), seed] = curve(task, names[name], seed, most, half=start == "half")
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"of": [card, start, name], "seed": seed, "curve": found}) + "\n")
                print(card, start, name, seed, f"{found[-1][0]:.3f}", file=sys.stderr, flush=True)
    keys = list(product(cards, STARTS, names))
    curves = {key: np.array([runs[key, seed] for seed in range(seeds)]) for key in keys}
    write_results(out, [row for card in cards for start in STARTS for row in rows(curves, card, start, sizes[card])])
    draw(curves, out.with_suffix(".png"))
    print(out.with_suffix(".md").read_text("utf-8"))


def curve(task: Task, strategy: Way, seed: int, most: int, *, half: bool) -> list[list[float]]:
    """Return test accuracy and the number of classes known at 1 to `most` labels per class."""
    generator, classes = np.random.default_rng(seed), len(task.names)
    order = generator.permutation(len(task.labels))  # of equal seeds, strategies start from the same texts
    known = generator.permutation(classes)[: classes // 2 if half else classes]
    labelled = [int(order[task.labels[order] == label][0]) for label in known]
    found = []
    for wanted in range(classes, classes * most + 1, classes):
        if count := wanted - len(labelled):
            unlabelled = np.setdiff1d(order, labelled)
            chosen = generator.permutation(len(unlabelled))[:count]
            if strategy != "random":
                model, supports = _fitted(task, labelled)
                rows = task.vectors[unlabelled]
                suggestions = suggest(rows, model.predict_proba(rows), supports, count, strategy=strategy)
                suggested = [suggestion.row for suggestion in suggestions]  # where it has no more to say, random ones
                chosen = [*suggested, *np.setdiff1d(chosen, suggested)][:count]
            labelled += unlabelled[chosen].tolist()
        model, _ = _fitted(task, labelled)
        found.append([float(np.mean(model.predict(task.queries) == task.answers)), len(model.classes_)])
    return found


def rows(curves: Curves, card: str, start: str, classes: int) -> list[Row]:
    """Return accuracies, classes known, paired differences to random labels, and labels needed."""
    own = {name: found for (of, at, name), found in curves.items() if (of, at) == (card, start)}
    place, rows = f"{card}, {STARTS[start]}", []
    for shots in SHOWN:
        at = {name: found[:, shots - 1] for name, found in own.items() if shots <= found.shape[1]}
        here = f"{place}/{shots}-per-class"
        rows += [_row(f"{here}/{name}", found[:, 0], "accuracy") for name, found in at.items()]
        if start == "half":
            rows += [_row(f"{here}/{name}, classes known", found[:, 1], "classes") for name, found in at.items()]
        if RANDOM in at:
            points = {name: 100 * (found - at[RANDOM])[:, 0] for name, found in at.items() if name != RANDOM}
            rows += [_row(f"{here}/{name} − {RANDOM}", found, "points") for name, found in points.items()]
    if RANDOM in own and own[RANDOM].shape[1] >= GOAL:
        goal = own[RANDOM][:, GOAL - 1, 0].mean()
        needed = {name: np.array([reached(run[:, 0], goal) for run in found]) for name, found in own.items()}
        needed = {name: found for name, found in needed.items() if not np.isnan(found).any()}
        here = f"{place}/as good as {GOAL} random per class"
        rows += [_row(f"{here}/{name}", classes * found, "labels") for name, found in needed.items()]
        times = {
            name: needed[RANDOM] / found for name, found in needed.items() if name != RANDOM and RANDOM in needed
        }
        rows += [_row(f"{here}/{RANDOM} ÷ {name}", found, "times") for name, found in times.items()]
    return rows


def reached(accuracies: np.ndarray, goal: float) -> float:
    """Return the labels per class at which an accuracy is first reached; NaN where it is not."""
    above = np.flatnonzero(accuracies >= goal)
    if not len(above) or above[0] == 0:
        return 1.0 if len(above) else float("nan")
    last = int(above[0])
    return last + (goal - accuracies[last - 1]) / (accuracies[last] - accuracies[last - 1])


def draw(curves: Curves, path: Path) -> None:
    """Draw accuracy over labels per class with its 95 % band, one panel per card and start."""
    places = list(dict.fromkeys((card, start) for card, start, _ in curves))
    figure = Figure(figsize=(10, 3.6 * ((len(places) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(places) + 1) // 2, 2, squeeze=False).ravel()
    for axis, (card, start) in zip(axes, places, strict=False):
        for name, colour in COLOURS.items():
            if (found := curves.get((card, start, name))) is not None:
                middle, half = np.array([mean_ci(values) for values in 100 * found[:, :, 0].T]).T
                labels = np.arange(1, len(middle) + 1)
                thick = 2.5 if name in (RANDOM, "suggest-mixed") else 1.2
                axis.plot(labels, middle, color=colour, linewidth=thick, label=name)
                axis.fill_between(labels, middle - half, middle + half, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(f"{card}, {STARTS[start]} at the start", fontsize=10)
        axis.set(xlabel="labels per class, in the mean", ylabel="test accuracy, %")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _task(encoder: Encoder, train: LabeledTexts, test: LabeledTexts) -> Task:
    words = [train.words(label) for label in range(len(train.classes))]
    with fast_matmul():
        vectors, queries, names = (encoder.encode(texts) for texts in (train.texts, test.texts, words))
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (vectors, queries, names)]
    return Task(unit[0], train.labels, unit[1], test.labels, unit[2])


def _fitted(task: Task, labelled: Sequence[int]) -> tuple[LogisticRegression, np.ndarray]:
    """Return a classifier, and all it has learned from: labelled texts and the names of their classes."""
    classes = np.unique(task.labels[labelled])
    supports = np.concatenate([task.vectors[labelled], task.names[classes]])
    model = LogisticRegression(C=100, max_iter=2000)
    return model.fit(supports, np.concatenate([task.labels[labelled], classes])), supports


def _row(name: str, values: np.ndarray, unit: str) -> Row:
    mean, half = mean_ci(values.tolist())
    return Row(name, mean, unit, half, len(values))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    disable_progress_bar()
    tyro.cli(main)
