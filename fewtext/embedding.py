"""Embeddings of the texts that classifiers are fitted to, remembered as long as their encoder lives.

So a grid search, cross-validation and edits encode each text once. Embeddings of texts that are only classified are
not kept, but are not computed again where a classifier was fitted to the same texts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewtext.nn.encoder import Encoder

BYTES = 256 * 2**20  # per encoder; the embeddings that were not used for longest go first
LONG = 4096  # texts whose encoding takes long enough for a bar on a terminal


class _Memory:
    """Unit embeddings of one encoder by text, `[D]` each; empty again as soon as the encoder's weights change."""

    def __init__(self) -> None:
        self.version, self.rows = -1, OrderedDict[tuple[str, bool], np.ndarray]()

    def of(self, encoder: Encoder) -> OrderedDict[tuple[str, bool], np.ndarray]:
        version = sum(weight._version for weight in encoder.parameters())  # counts changes in place
        if version != self.version:
            self.rows.clear()
        self.version = version
        return self.rows


_MEMORIES: WeakKeyDictionary[Encoder, _Memory] = WeakKeyDictionary()


def unit(encoder: Encoder, texts: Sequence[str], *, windows: bool = False, bar: bool = True) -> Tensor:
    """Return the embeddings of texts, `[n, D]`, each of length 1; many show a `bar` on a terminal."""
    vectors = encoder.encode(texts, progress=None if bar and len(texts) > LONG else False, windows=windows)
    return F.normalize(torch.from_numpy(vectors).to(encoder.device), dim=1)


def remembered(encoder: Encoder, texts: Sequence[str], *, windows: bool = False, keep: bool = True) -> Tensor:
    """Return what `unit` does, and encode only texts that are new; they are remembered if they are to be kept."""
    memory = _MEMORIES.setdefault(encoder, _Memory()).of(encoder)
    found = {text: memory[text, windows] for text in texts if (text, windows) in memory}
    if new := [text for text in dict.fromkeys(texts) if text not in found]:
        # Who asks about texts does so in pieces, and has a bar for all of them.
        found |= zip(new, unit(encoder, new, windows=windows, bar=keep).cpu().numpy(), strict=True)
    for text, row in found.items() if keep else ():
        memory[text, windows] = row
        memory.move_to_end((text, windows))
    while len(memory) * encoder.dimension * 4 > BYTES:
        memory.popitem(last=False)
    return torch.from_numpy(np.stack([found[text] for text in texts])).to(encoder.device)


@contextmanager
def held(encoder: Encoder, texts: Sequence[str], *, windows: bool = False) -> Iterator[None]:
    """Within this context, texts that are classified are encoded once, if their embeddings are not too large."""
    before = set(_MEMORIES.setdefault(encoder, _Memory()).of(encoder))
    fits = (len(before) + len(texts)) * encoder.dimension * 4 <= BYTES
    if fits:
        remembered(encoder, texts, windows=windows)
    try:
        yield
    finally:
        memory = _MEMORIES[encoder].rows
        for text in texts if fits else ():
            if (text, windows) not in before:
                memory.pop((text, windows), None)


def forget(encoder: Encoder, texts: Iterable[str] | None = None, *, everywhere: bool = False) -> None:
    """Drop embeddings, and what frozen layers gave for any text.

    Args:
        encoder: whose they are.
        texts: of these texts; of all by default.
        everywhere: drop those of every other encoder, too.
    """
    gone = None if texts is None else set(texts)
    for own in {encoder, *(_MEMORIES if everywhere else ())}:
        memory = _MEMORIES.setdefault(own, _Memory()).rows
        for key in [key for key in memory if gone is None or key[0] in gone]:
            del memory[key]
        if own.prefix is not None:
            own.prefix.clear()
