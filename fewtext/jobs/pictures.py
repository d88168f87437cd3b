"""Pictures of a classifier on held-out texts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from fewtext.classifier import FewShotClassifier
from fewtext.data.texts import LabeledTexts

MOST = 1000  # queries in the map, whose time grows with their square
logger = logging.getLogger("fewtext")


def draw_pictures(classifier: FewShotClassifier, texts: LabeledTexts, folder: Path) -> list[Path]:
    """Draw which classes are confused, where texts lie, how certain answers are, and what rejecting is worth.

    Without a text of its classes there is nothing to draw.

    Args:
        classifier: one with texts of one label.
        texts: held-out texts of its classes, and those out of scope.
        folder: for the pictures.

    Raises:
        FewtextError: matplotlib is not installed.
    """
    from fewtext.plots import draw_confusion, draw_coverage, draw_map, draw_reliability

    classes = classifier.classes_.tolist()
    number = {label: place for place, label in enumerate(classes)}
    kept = [row for row, label in enumerate(texts.labels) if texts.classes[label] in number]
    if not kept:
        logger.warning("%s: no text has a class of this classifier, so there are no pictures.", texts.name)
        return []
    asked = [texts.texts[row] for row in kept]
    truth = np.array([number[texts.classes[texts.labels[row]]] for row in kept])
    chances = classifier.predict_proba(asked)
    guesses = chances.argmax(axis=1)
    scores, threshold = classifier.confidence([*asked, *texts.out_of_scope]), classifier.certainty_.threshold
    right = np.concatenate([guesses == truth, np.zeros(len(texts.out_of_scope), dtype=bool)])
    unknown = np.arange(len(right)) >= len(asked) if texts.out_of_scope else None
    some = np.random.default_rng(0).permutation(len(asked))[:MOST]
    supports = classifier.supports_
    folder.mkdir(parents=True, exist_ok=True)
    return [
        draw_confusion(truth, guesses, classes, folder / "confusion.png"),
        draw_map(
            classifier.embed(supports.texts),
            supports.numbers(),
            classifier.embed([asked[row] for row in some]),
            truth[some],
            classes,
            folder / "map.png",
            guesses=guesses[some],
        ),
        draw_reliability(chances, truth, folder / "reliability.png"),
        draw_coverage(scores, right, folder / "coverage.png", unknown=unknown, thresholds=threshold),
    ]
