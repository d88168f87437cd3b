"""Measure a classifier on texts with their labels, and say what fitting found out about it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from fewtext.classifier import FewShotClassifier
from fewtext.classifier.certainty import Certainty
from fewtext.data.texts import LabeledTexts
from fewtext.metrics.scores import accuracy, brier_score, calibration_error, macro_f1
from fewtext.nn.tokens import TokenReport
from fewtext.results import Row

MOST = 5  # labels that a warning names
MEASURED = {
    "accuracy": ("accuracy", "accuracy"),
    "ece": ("calibration error", "share"),
    "brier": ("Brier score", "score"),
}  # what `Certainty.measured` holds: its name and unit in a row
logger = logging.getLogger("fewtext")


def measure(
    classifier: FewShotClassifier, texts: LabeledTexts, separator: str | None = None, *, warn: bool = True
) -> list[Row]:
    """Return accuracy, calibration, what is rejected, what is read, and speed on texts with their labels.

    Args:
        classifier: who answers.
        texts: held-out texts; those out of scope are to be rejected.
        separator: what stands between several labels of a text.
        warn: log which labels are no class of the classifier.
    """
    truth, count, name = labels_of(texts, separator, several=classifier.several_), len(texts), texts.name
    classes = list(map(str, classifier.classes_.tolist()))  # as labels of a file are
    if warn:
        _warn_of_unknown(name, truth if classifier.several_ else [[label] for label in truth], classes)
    state = classifier._state()
    _ = state.certainty  # measured when first asked for: a part of fitting, not of answering
    start = time.perf_counter()
    with state.holding(texts.texts):
        chances = classifier.predict_proba(texts.texts)
        seconds = time.perf_counter() - start
        guesses = classifier.predict(texts.texts).tolist()
        answers = [] if classifier.several_ else classifier.classify([*texts.texts, *texts.out_of_scope])
    report = state.learner.encoder.report(texts.texts, windows=classifier.windows)
    rows = [Row(f"{name}/predict", count / seconds, "texts/s", n=count), *reading_rows(name, report)]
    if classifier.several_:
        guesses = [[str(label) for label in own] for own in guesses]
        return [*_measure_several(name, truth, guesses, classes), *rows]
    number = {label: place for place, label in enumerate(classes)}
    inside = np.array([label in number for label in truth])
    known = np.array([number[label] for label in truth if label in number])
    shares = np.array([answer.label is not None for answer in answers])
    guesses = np.array(list(map(str, guesses)))
    found = [
        Row(f"{name}/accuracy", accuracy(guesses, np.array(truth)), "accuracy", n=count),
        Row(f"{name}/macro-F1", macro_f1(guesses, np.array(truth)), "macro-F1", n=count),
    ]
    if len(known):
        found += [
            Row(f"{name}/calibration error", calibration_error(chances[inside], known), "share", n=len(known)),
            Row(f"{name}/Brier score", brier_score(chances[inside], known), "score", n=len(known)),
        ]
    found.append(Row(f"{name}/accepted", shares[:count].mean(), "share", n=count))
    if texts.out_of_scope:
        recall = 1 - shares[count:].mean()
        found.append(Row(f"{name}/out of scope, rejected", recall, "share", n=len(texts.out_of_scope)))
    return found + rows


def measure_onnx(folder: Path, texts: LabeledTexts, separator: str | None = None, *, int8: bool) -> list[Row]:
    """Return how often the exported files are right: the smaller one beside the other, since it costs some."""
    from fewtext.artifact.onnx import onnx_logits

    classifier = FewShotClassifier.from_pretrained(folder)
    classes, several = classifier.classes_, classifier.several_
    truth = labels_of(texts, separator, several=several)

    def right(*, int8: bool) -> float:
        logits = onnx_logits(folder, texts.texts, int8=int8)
        if not several:
            return accuracy(classes[logits.argmax(axis=1)], np.array(truth))
        return float(np.mean([{*classes[row > 0]} == {*own} for row, own in zip(logits, truth, strict=True)]))

    name, full = f"{texts.name}/{'all labels right' if several else 'accuracy'}, ONNX", right(int8=False)
    rows = [Row(name, full, "accuracy", n=len(texts))]
    if int8:
        beside = {"peer": "full precision", "peer_value": full}
        rows.append(Row(f"{name} in int8", right(int8=True), "accuracy", n=len(texts), **beside))
    return rows


def certainty_rows(name: str, found: Certainty, how: str) -> list[Row]:
    """Return what is known about how certain answers are; nothing where nothing was measured.

    Args:
        name: of the texts it was found on.
        found: what was found.
        how: in a word, for the rows' names.
    """
    known = found.measured or {}
    count = known.get("texts")
    rows = [
        Row(f"{name}/{how} {what}", known[key], unit, n=count)
        for key, (what, unit) in MEASURED.items()
        if key in known
    ]
    if found.threshold is not None:
        rows.append(Row(f"{name}/{how} threshold", found.threshold, "score", n=count))
    return rows


def reading_rows(name: str, report: TokenReport) -> list[Row]:
    """Return how many texts were cut, and the share of tokens that the encoder does not know."""
    share = report.unknown / max(1, report.tokens)
    return [
        Row(f"{name}/texts cut", report.truncated, "texts", n=report.texts),
        Row(f"{name}/unknown tokens", share, "share", n=report.tokens),
    ]


def labels_of(texts: LabeledTexts, separator: str | None, *, several: bool) -> list[Any]:
    """Return the label of each text, or the list of its labels where it may have several."""
    labels = [texts.classes[label] for label in texts.labels]
    if not several:
        return labels
    return [[part.strip() for part in (label.split(separator) if separator else [label])] for label in labels]


def _warn_of_unknown(name: str, truth: Sequence[Sequence[str]], classes: Sequence[Any]) -> None:
    """Log which labels are no class, and how many texts have one."""
    unknown = sorted({label for own in truth for label in own} - set(classes))
    if unknown:
        count = sum(not set(own).isdisjoint(unknown) for own in truth)
        named = ", ".join(map(repr, unknown[:MOST])) + ", …" * (len(unknown) > MOST)
        words = "%s: %s of %s texts have a label that is no class of this classifier (%s). They count as wrong."
        logger.warning(words, name, f"{count:,}", f"{len(truth):,}", named)


def _measure_several(name: str, truth: list[list[str]], guesses: list[list[str]], classes: list[str]) -> list[Row]:
    """Return how often all labels of a text are right, and F1: of all decisions, and averaged over labels there."""
    names = list(dict.fromkeys([*classes, *(label for own in truth for label in own)]))
    wanted, given = (np.asarray(MultiLabelBinarizer(classes=names).fit_transform(own)) for own in (truth, guesses))
    micro = f1_score(wanted, given, average="micro", zero_division=0)  # pyright: ignore[reportArgumentType]
    macro = f1_score(wanted, given, labels=np.flatnonzero(wanted.any(axis=0)), average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    return [
        Row(f"{name}/all labels right", float((wanted == given).all(axis=1).mean()), "accuracy", n=len(truth)),
        Row(f"{name}/micro-F1", float(micro), "share", n=len(truth)),
        Row(f"{name}/macro-F1", float(macro), "macro-F1", n=len(truth)),
    ]
