"""Examine labelled texts before anybody learns from them, and say what is wrong with them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from fewtext.bases import load_base
from fewtext.data.card import DataCard
from fewtext.data.checks import checked_label
from fewtext.data.load import ROW_SPLITS, choose_column, load_texts, read_rows
from fewtext.data.texts import LabeledTexts, readable
from fewtext.doctor.classes import examine_classes
from fewtext.doctor.diagnosis import Diagnosis
from fewtext.doctor.findings import OUTSIDE, Finding, Place, Sheet
from fewtext.doctor.texts import examine_texts
from fewtext.doctor.tokens import Estimate, estimate, examine_tokens
from fewtext.doctor.vectors import examine_vectors
from fewtext.errors import DataError
from fewtext.jobs.report import peak_memory
from fewtext.nn.pretrained import best_local_base
from fewtext.refine import ENOUGH, SHORT, RefineConfig

WORST_FIRST = ("error", "warning", "note")
WARM_UP = 8  # texts encoded before time is taken
TIMED = 64  # texts that say how long many take; fewer are taken again


@dataclass(frozen=True)
class Doctor:
    """Examine labelled texts: repeated and contradictory ones, leaks, doubtful labels, confusable classes, costs.

    Attributes:
        data: a csv, tsv, json, jsonl or parquet file, a folder, a hub id, or the name of a data card.
        test: a second file, which is held out; its texts must not be among the others.
        base: folder of a meta-trained learner, folder or hub id of an encoder; by default the best one here.
        fast: without an encoder: nothing about rephrased texts, doubtful labels, confusable classes and costs.
        split: examine only this row split (train, say) where the data have several.
        shots: of the texts to learn from only so many of each class, drawn at random as `fewtext fit` draws them.
        seed: of that draw.
        most: examples of each finding.
        json: print the report as JSON.
        strict: end with an error where there is one in the data.
        text_column: column of the texts; without effect on a data card, which names its own.
        label_column: column of the labels, likewise.
        out_of_scope_label: label of texts that belong to no class, likewise.
        separator: what stands between the labels of a text that has several, `;` say.
        data_root: folder in which data cards find their data.
    """

    data: Annotated[str, tyro.conf.Positional]
    test: str | None = None
    base: str | None = None
    fast: bool = False
    split: str | None = None
    shots: int | None = None
    seed: int = 0
    most: int = 5
    json: bool = False
    strict: bool = False
    text_column: str | None = None
    label_column: str | None = None
    out_of_scope_label: str | None = None
    separator: str | None = None
    data_root: Path | None = None


def doctor(options: Doctor) -> Diagnosis:
    """Examine texts: those to learn from, and whether the ones held out are really others.

    Raises:
        DataError: texts that cannot be read, none to learn from, or a separator that stands in no label.
        EncoderError: no usable base.
    """
    name, sheet = Path(options.data).name, _read(options.data, options, options.split)
    if options.separator and not any(len(labels) > 1 for labels in sheet.label_sets):
        raise DataError(f"{name}: no label has {options.separator!r} in it. Correct --separator, or leave it out.")
    if options.shots is not None:
        sheet = _drawn(sheet, options.shots, options.seed)
    if options.test is not None:
        known = sheet if any(sheet.parts) else _named(sheet, "train")
        sheet = known + _named(_read(options.test, options), "test")
    if not len(sheet.supports):
        raise DataError(f"{name}: no text to learn from, all are held out or out of scope. Examine one row split.")
    findings, costs = [*examine_texts(sheet), *examine_classes(sheet)], None
    if not options.fast:
        encoded, costs = _encoded(sheet, options.base or best_local_base())
        findings += encoded
    findings.sort(key=lambda finding: WORST_FIRST.index(finding.severity))
    shown = tuple(replace(finding, examples=finding.examples[: options.most]) for finding in findings)
    texts, classes = len(sheet.supports), len(sheet.classes[0])
    return Diagnosis(name, texts, classes, len(sheet.texts) - texts, shown, costs)


def _read(source: str, options: Doctor, split: str | None = None) -> Sheet:
    """Return all texts of a source; rows of a data card are numbered in the order of `load_texts`."""
    # In files the out-of-scope label is one like the others at first, so that every text keeps its place.
    loaded = load_texts(
        source,
        text_column=options.text_column,
        label_column=options.label_column,
        split=split,
        data_root=options.data_root,
    )
    for label in loaded.classes if options.separator else ():
        for part in label.split(options.separator):
            checked_label(part.strip(), f"{loaded.name}: a label in {label!r}")
    inside, outside = loaded.partition or ("",) * len(loaded), ("",) * len(loaded.out_of_scope)
    parts = inside + (loaded.out_of_scope_partition or outside)
    names = [OUTSIDE if name == options.out_of_scope_label else name for name in loaded.classes]
    labels = tuple(names[number] for number in loaded.labels) + (OUTSIDE,) * len(outside)
    if source in DataCard.names():
        numbers = defaultdict(count)
        rows = tuple(next(numbers[part]) for part in parts)
        return Sheet(loaded.texts + loaded.out_of_scope, labels, parts, rows, separator=options.separator)
    rows, empty = [], []
    for key, table in read_rows(source).items():
        part = ROW_SPLITS.get(str(key), str(key))
        if split in (None, part):
            column = choose_column(table.column_names, "text", options.text_column, source)
            for row, text in enumerate(table[column][:]):
                if text.strip():
                    rows.append(row)
                else:
                    empty.append(Place(part if loaded.partition else "", row, "", ""))
    return Sheet(loaded.texts, labels, parts, tuple(rows), tuple(empty), options.separator)


def _named(sheet: Sheet, part: str) -> Sheet:
    """Return the texts as those of one row split."""
    empty = tuple(replace(place, part=part) for place in sheet.empty)
    return replace(sheet, parts=(part,) * len(sheet.parts), empty=empty)


def _drawn(sheet: Sheet, shots: int, seed: int) -> Sheet:
    """Return only `shots` supports of each class, those that `LabeledTexts.at_most` draws, and all other texts."""
    labels = [sheet.labels[row] for row in sheet.supports]
    kept = LabeledTexts.of(map(str, sheet.supports), labels).at_most(shots, seed=seed).texts
    left_out = {*sheet.supports.tolist()} - {int(row) for row in kept}
    return sheet.only([row for row in range(len(sheet.texts)) if row not in left_out])


def _encoded(sheet: Sheet, base: str) -> tuple[list[Finding], Estimate]:
    """Return what an encoder finds, and what fitting would take with it."""
    encoder = load_base(base).encoder
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    tokens = encoder.tokenize(sheet.texts)
    encoder.encode(sheet.texts[:WARM_UP])
    times = -(-TIMED // len(tokens))
    start = time.perf_counter()
    vectors = torch.from_numpy(encoder.encode(sheet.texts * times, progress=None)[: len(tokens)])
    second, memory = (time.perf_counter() - start) / (times * sum(map(len, tokens))), peak_memory()
    findings = [*examine_tokens(sheet, encoder, tokens), *examine_vectors(sheet, vectors)]
    classes, numbers = sheet.classes
    config = RefineConfig() if np.bincount(numbers).min() >= ENOUGH else RefineConfig(steps=SHORT)
    texts = [len(tokens[row]) for row in sheet.supports]
    names = [len(ids) for ids in encoder.tokenize([readable(label) for label in classes])]
    ways = min(config.ways, len(names))
    sizes = {"steps": config.steps, "ways": ways, "shots": sum(config.parts(ways, len(texts) // len(names)))}
    costs = estimate(encoder, texts, names, second=second, memory=memory, **sizes)
    return findings, replace(costs, refine=None, refine_memory=None) if sheet.separator else costs
