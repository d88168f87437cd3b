"""Say why texts get their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from fewtext.classifier import FewShotClassifier
from fewtext.classifier.evidence import Explanation


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
    """Return an explanation of each answer.

    Raises:
        ArtifactError: no such classifier.
        DataError: saved without its texts, or no text.
    """
    classifier = FewShotClassifier.from_pretrained(options.classifier)
    return [classifier.explain(text, most=options.most, without=options.without) for text in options.texts]
