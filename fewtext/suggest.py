"""Which unlabelled texts to label next: those that stand for most of what is in doubt.

A text stands for another as far as it is more like it than any text that is labelled or chosen. A strategy weighs the
unlabelled texts, and those that stand for most weight are chosen one after the other: facility location, whose greedy
choice has at least 63 % of the best one's value (Nemhauser et al. 1978, https://doi.org/10.1007/BF01588971). Where
labels are few, the most doubtful texts by themselves are odd ones, worth less than random ones
(https://arxiv.org/abs/2202.02794); texts typical of where the doubt is are worth more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np

from fewtext.errors import DataError, LearnerError

Reason: TypeAlias = Literal["margin", "coverage", "unknown"]
Strategy: TypeAlias = Literal["mixed"] | Reason

MOST = 8192  # texts that are compared with one another, 256 MB; of more, a random choice
BLOCK = 1024  # rows of that at a time
DOUBTFUL = 10  # times as many texts as are wanted, from which `margin` chooses
NEIGHBOURS = 20  # unlabelled texts that are a text's surroundings
FAR = 2.0  # times as far from every label as from the surroundings: perhaps of no class yet
TORN = 0.25  # probability of the second class, or of having a class or not: in doubt


@dataclass(frozen=True)
class Suggestion:
    """A text to label.

    Attributes:
        row: which of the unlabelled texts.
        reason: `unknown`, twice as far from all that is labelled as from the unlabelled texts around it, so perhaps
            of no class yet; `margin`, two classes have a probability of 0.25 or more each; `coverage`, it stands for
            others. A strategy other than `mixed` gives its own name.
        score: the share it adds to what labels stand for, between 0 and 1.
        between: the two most probable classes, the likelier first; None where there are fewer. Where texts may have
            several, the one whose probability is nearest to 0.5.
    """

    row: int
    reason: Reason
    score: float
    between: tuple[int, ...] | None


def suggest(
    vectors: np.ndarray,
    probabilities: np.ndarray,
    supports: np.ndarray,
    count: int,
    *,
    strategy: Strategy = "mixed",
    duplicate: float = 0.95,
    seed: int = 0,
    several: bool = False,
) -> list[Suggestion]:
    """Return the texts to label next, the most useful first.

    Args:
        vectors: unit embeddings of n unlabelled texts, `[n, D]`.
        probabilities: of each class, `[n, N]`; with N < 2 every text is in doubt.
        supports: unit embeddings of m labelled texts and label names, `[m, D]`; m may be 0.
        count: most texts to return. There are fewer where only duplicates and texts without weight are left.
        strategy: what gives a text weight. `mixed`: doubt, which is 1 − the margin between the two most probable
            classes; `margin`: the same for the most doubtful, 0 for the rest; `coverage`: 1; `unknown`: doubt × how
            much nearer it is to the unlabelled texts around it than to any label.
        duplicate: cosine similarity from which on a text is not worth a label of its own.
        seed: of the random choice from more than 8,192 texts.
        several: whether a text may have several classes: in doubt is then one for which any probability is near 0.5.

    Raises:
        DataError: shapes that do not fit together.
        LearnerError: an unknown strategy, or a count below 1.
    """
    if vectors.ndim != 2 or probabilities.shape[:1] != vectors.shape[:1] or supports.shape[1:] != vectors.shape[1:]:
        shapes = ", ".join(str(array.shape) for array in (vectors, probabilities, supports))
        raise DataError(f"vectors, probabilities, supports of shapes {shapes}: they must be [n, D], [n, N], [m, D].")
    if strategy not in ("mixed", "margin", "coverage", "unknown"):
        raise LearnerError(f"strategy={strategy!r}: it must be 'mixed', 'margin', 'coverage' or 'unknown'.")
    if count < 1:
        raise LearnerError(f"count={count}: ask for at least 1 text.")
    rows = np.arange(len(vectors))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    some, chances = vectors[rows].astype(np.float32), probabilities[rows]
    alike = some @ some.T
    labelled, around = _nearest(some, supports.astype(np.float32)), _surroundings(alike)
    torn, doubt = np.zeros(len(rows)), np.ones(len(rows), np.float32)
    if several:
        torn = np.minimum(chances, 1 - chances).max(axis=1)
        doubt = (2 * torn).astype(np.float32)
    elif chances.shape[1] > 1:
        torn, first = np.partition(chances, -2, axis=1)[:, -2:].T
        doubt = (1 - (first - torn)).astype(np.float32)
    weights = {
        "mixed": doubt,
        "margin": np.where(doubt >= np.sort(doubt)[-DOUBTFUL * count :].min(initial=1), doubt, 0),
        "coverage": np.ones_like(doubt),
        "unknown": doubt * np.maximum(around - labelled, 0),
    }[strategy]
    reasons = np.where(torn >= TORN, "margin", "coverage")
    reasons[1 - labelled >= FAR * (1 - around)] = "unknown"
    found = []
    for place, score in _chosen(alike, weights, labelled, count, duplicate):
        reason = cast(Reason, str(reasons[place])) if strategy == "mixed" else strategy
        order = np.abs(chances[place] - 0.5) if several else -chances[place]
        between = tuple(np.argsort(order, kind="stable")[: 1 if several else 2].tolist())
        found.append(Suggestion(int(rows[place]), reason, score, between if several or len(between) == 2 else None))
    return found


def _chosen(
    alike: np.ndarray, weights: np.ndarray, reached: np.ndarray, count: int, duplicate: float
) -> list[tuple[int, float]]:
    """Return places and their shares, chosen greedily.

    Args:
        alike: cosine similarities `[n, n]`.
        weights: `[n]`; a text without weight is not chosen.
        reached: similarity to the nearest labelled text, `[n]`.
        count: most places to return.
        duplicate: similarity from which on a text is not chosen.
    """
    gains = _gains(alike, weights, reached, np.ones_like(reached), np.arange(len(alike)))
    gains[(weights <= 0) | (reached >= duplicate)] = -np.inf
    whole, found = float(weights @ (1 - reached)), []
    while len(found) < count and gains.max(initial=-np.inf) > -np.inf:
        place = int(gains.argmax())
        found.append((place, float(gains[place]) / whole))
        nearer = np.maximum(reached, alike[place])
        gains -= _gains(alike, weights, reached, nearer, np.flatnonzero(nearer > reached))
        gains[alike[place] >= duplicate] = gains[place] = -np.inf
        reached = nearer
    return found


def _gains(alike: np.ndarray, weights: np.ndarray, low: np.ndarray, high: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return what each text's similarity to the texts `of` adds to `low`, up to `high`, in weight, `[n]`."""
    gains = np.zeros(len(alike))
    for start in range(0, len(of), BLOCK):
        part = of[start : start + BLOCK]
        gains += weights[part] @ (np.clip(alike[part], low[part, None], high[part, None]) - low[part, None])
    return gains


def _nearest(vectors: np.ndarray, supports: np.ndarray) -> np.ndarray:
    """Return the similarity of each text to the support that is most like it, at least 0, `[n]`."""
    nearest = np.zeros(len(vectors), np.float32)
    for start in range(0, len(supports), BLOCK):
        nearest = np.maximum(nearest, (vectors @ supports[start : start + BLOCK].T).max(axis=1))
    return nearest


def _surroundings(alike: np.ndarray) -> np.ndarray:
    """Return the mean similarity of each text to its nearest ones, a tenth of all at most, `[n]`."""
    number = min(NEIGHBOURS, len(alike) // 10)
    parts = (alike[start : start + BLOCK] for start in range(0, len(alike), BLOCK))
    nearest = [np.partition(part, -number - 1, axis=1)[:, -number - 1 :].sum(axis=1) - 1 for part in parts]
    return np.concatenate([np.zeros(0), *nearest]) / max(1, number)  # itself is the nearest, at 1
