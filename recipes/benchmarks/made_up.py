"""Any number of texts that look like given ones, where more are needed than there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def made_up_texts(like: Sequence[str], number: int, *, seed: int = 0) -> list[str]:
    """Return different texts of the words, and the numbers of words, of the given ones."""
    rng = np.random.default_rng(seed)
    split = [text.split() for text in like]
    words = np.array([word for text in split for word in text])
    lengths = rng.choice([len(text) for text in split], number)
    return [" ".join([*rng.choice(words, length), str(row)]) for row, length in enumerate(lengths)]
