"""How alike a target's classes and those of a source of episodes are, by the geometry of their prototypes.

Meta-training on a source teaches an encoder to tell its classes apart. That helps a target as far as its classes lie
where the source's do, and costs it something where they do not. How much either is was measured on pairs of data sets
(`recipes/benchmarks/transfer.py`): of six sources, the nearest one is a target's best, or hardly worse. It is nearly
always of the target's own collection; a near source of another one costs nothing, and brings little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from tqdm import tqdm

from fewtext.data.texts import LabeledTexts
from fewtext.embedding import unit
from fewtext.nn.encoder import Encoder

PER_CLASS = 20  # texts that are enough for a prototype
SHARED = 0.9  # of the source's variance between classes is in the directions that count
# Points of accuracy on 5-way 1-shot episodes by nearness: least squares over the 36 pairs of validation classes, and
# how far 95 % of them lie from that line.
AT_ZERO, BY_NEARNESS, SPREAD = -2.87, 8.52, 3.84
NEAR = 0.45  # from here on none of those pairs lost anything that was certain
Verdict: TypeAlias = Literal["worth trying", "of little use", "may hurt"]


@dataclass(frozen=True)
class Similarity:
    """What the prototypes of a source say about a target.

    Attributes:
        source: its name.
        classes: how many it has.
        nearness: mean cosine similarity of a target's class to the nearest one of the source.
        shared: share of the target's variance between classes that is in the source's directions.
        confusion: mean cosine similarity of a target's class to the nearest other one of the target.
    """

    source: str
    classes: int
    nearness: float
    shared: float
    confusion: float

    @property
    def expected_gain(self) -> float:
        """What meta-training on the source brings the target, ± `SPREAD` points of 5-way 1-shot accuracy."""
        return AT_ZERO + BY_NEARNESS * self.nearness

    @property
    def verdict(self) -> Verdict:
        """Whether meta-training on it is worth trying."""
        if self.nearness >= NEAR:
            return "worth trying"
        return "of little use" if self.expected_gain > 0 else "may hurt"


def prototypes(texts: LabeledTexts, encoder: Encoder) -> np.ndarray:
    """Return the directions of the classes' mean embeddings, names included, `[N, D]`."""
    few = texts.at_most(PER_CLASS)
    words = [texts.words(label) for label in range(len(texts.classes))]
    vectors = unit(encoder, [*few.texts, *words]).cpu().numpy()
    labels = np.concatenate([few.labels, np.arange(len(words))])
    sums = np.stack([vectors[labels == label].sum(0) for label in range(len(words))])
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def similarity(target: np.ndarray, source: np.ndarray, name: str) -> Similarity:
    """Compare the prototypes of a target `[N, D]` and a source `[M, D]`."""
    cosines, own = target @ source.T, target @ target.T
    np.fill_diagonal(own, -1)
    _, lengths, directions = np.linalg.svd(source - source.mean(0), full_matrices=False)
    kept = np.searchsorted(np.cumsum(lengths**2) / (lengths**2).sum(), SHARED) + 1
    spread = target - target.mean(0)
    shared = ((spread @ directions[:kept].T) ** 2).sum() / (spread**2).sum()
    return Similarity(name, len(source), float(cosines.max(1).mean()), float(shared), float(own.max(1).mean()))


def similarities(target: LabeledTexts, sources: Sequence[LabeledTexts], encoder: Encoder) -> list[Similarity]:
    """Compare a target with sources, the nearest first."""
    own = prototypes(target, encoder)
    bar = tqdm(sources, desc="similarity", unit="source", disable=None)
    found = [similarity(own, prototypes(source, encoder), source.name) for source in bar]
    return sorted(found, key=lambda other: -other.nearness)
