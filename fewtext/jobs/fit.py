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
from fewtext.data.texts import LabeledTexts
from fewtext.jobs.push import data_facts, result_facts
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
        refine: adapt the encoder to the texts with LoRA first: `on`, `off`, or `auto`, which keeps it if it helps
            held-out texts.
        names: let each label, read as words, count as one more text of its class.
        text_column: column of the texts; without effect on a data card, which names its own.
        label_column: column of the labels, likewise.
        out_of_scope_label: label of texts that belong to no class, likewise; they are left out.
        split: fit to this row split (train, say) where the data have several.
        test: a second file, or a row split of the same data, to measure accuracy on.
        data_root: folder in which data cards find their data.
        style: `merged` stands alone and is a transformers model, too; `adapter` is small and names its base.
        onnx: also export to ONNX, in full precision or with a smaller copy in int8; with `test` it is measured, too.
        push_to_hub: push the classifier to this repository (owner/name).
        private: make a new repository private.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path
    base: str | None = None
    shots: int | None = None
    seed: int = 0
    method: Literal["linear", "prototype"] = "linear"
    refine: Literal["on", "off", "auto"] = "off"
    names: bool = True
    text_column: str | None = None
    label_column: str | None = None
    out_of_scope_label: str | None = None
    split: str | None = None
    test: str | None = None
    data_root: Path | None = None
    style: Literal["merged", "adapter"] = "merged"
    onnx: Literal["fp32", "int8"] | None = None
    push_to_hub: str | None = None
    private: bool = False


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
    refine = options.refine if options.refine == "auto" else options.refine == "on"
    classifier = FewShotClassifier(options.base, method=options.method, names=options.names, refine=refine)
    start = time.perf_counter()
    classifier.fit(texts.texts, labels)
    rows = [Row(f"{texts.name}/fit", time.perf_counter() - start, "s", n=len(texts))]
    tried = classifier.facts_.get("refined", {})
    if "kept" in tried:
        name = f"{texts.name}/held-out texts, refined ({'kept' if tried['kept'] else 'not kept'})"
        beside = {"peer": "not refined", "peer_value": tried["frozen"]}
        rows.append(Row(name, tried["refined"], "accuracy", n=tried["held_out"], **beside))
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
    known = data_facts([options.data])
    classifier.facts_.update(data=known, results=result_facts(rows))
    classifier.save_pretrained(options.out, style=options.style, onnx=options.onnx)
    if options.onnx is not None and options.test is not None:
        rows += _measure_onnx(options.out, held_out, int8=options.onnx == "int8")
    write_results(options.out / "results.json", rows)
    if options.push_to_hub is not None:
        how = {"style": options.style, "onnx": options.onnx, "private": options.private or None}
        classifier.push_to_hub(options.push_to_hub, **how)
    return classifier, rows


def _measure_onnx(folder: Path, texts: LabeledTexts, *, int8: bool) -> list[Row]:
    """Return the accuracy of the exported files: of the smaller one beside the other, since it costs some."""
    from fewtext.artifact.onnx import onnx_labels

    truth = texts.labels
    names = {label: number for number, label in enumerate(texts.classes)}
    classes = np.array(
        [names.get(label, -1) for label in FewShotClassifier.from_pretrained(folder).classes_.tolist()]
    )
    full = accuracy(classes[onnx_labels(folder, texts.texts)], truth)
    rows = [Row(f"{texts.name}/accuracy, ONNX", full, "accuracy", n=len(texts))]
    if int8:
        small = accuracy(classes[onnx_labels(folder, texts.texts, int8=True)], truth)
        name = f"{texts.name}/accuracy, ONNX in int8"
        rows.append(Row(name, small, "accuracy", n=len(texts), peer="full precision", peer_value=full))
    return rows
