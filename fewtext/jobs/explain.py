"""Say why texts get their answers: where they may have several labels, why each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from fewtext.classifier import FewShotClassifier
from fewtext.classifier.evidence import Explanation
from fewtext.data.checks import checked_texts
from fewtext.errors import DataError


@dataclass(frozen=True)
class Explain:
    """Say which texts decide an answer, and what it would be without them.

    The classifier must have been saved with its texts: `fewtext fit … --include-texts`.

    Attributes:
        classifier: folder or hub id of a classifier.
        texts: the texts whose answers are to be explained.
        most: texts to name for each.
        without: leave out so many of those that speak most for the answer, one at a time.
        json: print the explanations as JSON.
    """

    classifier: Annotated[str, tyro.conf.Positional]
    texts: Annotated[tuple[str, ...], tyro.conf.Positional]
    most: int = 5
    without: int = 3
    json: bool = False


def explain(options: Explain) -> list[Explanation]:
    """Return an explanation of each answer; of each of its labels where there may be several.

    Raises:
        ArtifactError: no such classifier.
        DataError: saved without its texts, or no text.
    """
    if not options.texts:
        raise DataError(f'no text. Give at least one: fewtext explain {options.classifier} "where is my card?"')
    classifier = FewShotClassifier.from_pretrained(options.classifier)
    return [
        classifier.explain(text, label=label, most=options.most, without=options.without)
        for text in checked_texts(options.texts)
        for label in _labels(classifier, text)
    ]


def _labels(classifier: FewShotClassifier, text: str) -> tuple[Any, ...]:
    """Return the labels to explain; None for the most probable one."""
    return (classifier.predict([text])[0] if classifier.several_ else ()) or (None,)
