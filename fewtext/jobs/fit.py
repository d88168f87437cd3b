"""Fit a classifier to a few labelled texts, save it, and measure it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from fewtext.classifier import FewShotClassifier
from fewtext.data.load import load_texts
from fewtext.metrics.scores import accuracy, macro_f1
from fewtext.results import Row, write_results


@dataclass(frozen=True)
class Fit:
    """Fit a classifier to a few labelled texts and save it.

    Attributes:
        data: a csv, tsv, json, jsonl or parquet file, a folder, a hub id, or the name of a data card.
        out: folder for the classifier.
        base: folder of a meta-trained learner, folder or hub id of an encoder; by default the best one here.
        shots: use only so many texts of each class, drawn at random; all by default.
        seed: of that draw.
        method: `linear`, or `prototype` for the base learner's own head.
        names: let each label, read as words, count as one more text of its class.
        text_column: column of the texts; without effect on a data card, which names its own.
        label_column: column of the labels, likewise.
        out_of_scope_label: label of texts that belong to no class, likewise; they are left out.
        split: fit to this row split (train, say) where the data have several.
        test: a second file, or a row split of the same data, to measure accuracy on.
        data_root: folder in which data cards find their data.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path
    base: str | None = None
    shots: int | None = None
    seed: int = 0
    method: Literal["linear", "prototype"] = "linear"
    names: bool = True
    text_column: str | None = None
    label_column: str | None = None
    out_of_scope_label: str | None = None
    split: str | None = None
    test: str | None = None
    data_root: Path | None = None


def fit(options: Fit) -> tuple[FewShotClassifier, list[Row]]:
    """Fit and save a classifier; returns it with what was measured."""
    reading: dict[str, Any] = {
        "text_column": options.text_column,
        "label_column": options.label_column,
        "out_of_scope_label": options.out_of_scope_label,
        "data_root": options.data_root,
    }
    texts = load_texts(options.data, split=options.split, **reading)
    if options.shots is not None:
        texts = texts.at_most(options.shots, seed=options.seed)
    labels = np.array(texts.classes)[texts.labels]
    classifier = FewShotClassifier(options.base, method=options.method, names=options.names)
    start = time.perf_counter()
    classifier.fit(texts.texts, labels)
    rows = [Row(f"{texts.name}/fit", time.perf_counter() - start, "s", n=len(texts))]
    if options.test is not None:
        inside = options.test in ("train", "validation", "test")
        held_out = load_texts(
            options.data if inside else options.test, split=options.test if inside else None, **reading
        )
        start = time.perf_counter()
        guesses = classifier.predict(held_out.texts)
        seconds, truth = time.perf_counter() - start, np.array(held_out.classes)[held_out.labels]
        rows += [
            Row(f"{held_out.name}/accuracy", accuracy(guesses, truth), "accuracy", n=len(held_out)),
            Row(f"{held_out.name}/macro-F1", macro_f1(guesses, truth), "macro-F1", n=len(held_out)),
            Row(f"{held_out.name}/predict", len(held_out) / seconds, "texts/s", n=len(held_out)),
        ]
    classifier.save_pretrained(options.out)
    write_results(options.out / "results.json", rows)
    return classifier, rows
