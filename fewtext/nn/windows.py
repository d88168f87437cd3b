"""Long texts by windows: where they lie among a text's tokens, and one vector from all of theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 16  # windows of one text, so that its length does not decide how long encoding takes
LEAD = 2  # weight of a text's first window, which most often says what it is about


def spread(total: int, size: int) -> list[int]:
    """Return where windows of `size` begin, the first at the start of `total` places and the last at their end.

    As few as cover all places, and evenly, so that neighbours share what there is to spare; `MOST` where that is not
    enough, with gaps.
    """
    number = min(MOST, max(1, -(-total // size)))
    return np.linspace(0, max(0, total - size), number).astype(int).tolist()


def windows(tokens: Sequence[int], size: int, words: Sequence[int | None] | None = None) -> list[list[int]]:
    """Return pieces of at most `size` tokens that cover a text, as far as `MOST` can.

    Args:
        tokens: of the text.
        size: of a window, in tokens.
        words: number of the word that each token belongs to; with them a window begins with a word, if one begins
            where it overlaps with the window before.
    """
    pieces, end = [], 0
    for start in spread(len(tokens), size):
        near = range(start, end) if words else ()
        first = next((place for place in near if words[place] != words[place - 1]), start)
        end = first + size
        pieces.append(list(tokens[first:end]))
    return pieces


def pool_windows(vectors: np.ndarray, tokens: np.ndarray, counts: np.ndarray, *, normalise: bool) -> np.ndarray:
    """Return the mean of each text's windows, weighted by their tokens, `[n, D]`; a single window's as it is.

    The first window of a text has `LEAD` times its weight.

    Args:
        vectors: `[m, D]`, of all windows, text by text.
        tokens: `[m]`, length of each window.
        counts: `[n]`, number of windows of each text, 1 or more.
        normalise: whether means are scaled to length 1, as the vectors were.
    """
    if len(counts) == len(vectors):
        return vectors
    first = np.cumsum(counts) - counts
    weights = tokens.astype(vectors.dtype)
    weights[first] *= LEAD
    weights /= np.repeat(np.add.reduceat(weights, first), counts)
    pooled = np.add.reduceat(weights[:, None] * vectors, first)
    if normalise:
        pooled[counts > 1] /= np.linalg.norm(pooled[counts > 1], axis=1, keepdims=True)
    return pooled
