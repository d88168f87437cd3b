"""Episodes → `EpisodeBatch`: look up the texts, tokenise them, lay them end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fewtext.data.sampler import Episode
from fewtext.data.texts import LabeledTexts
from fewtext.tensors import ABSENT, EpisodeBatch, Query, Support, Tokens

Tokenize = Callable[[Sequence[str]], list[list[int]]]


def ragged(rows: Sequence[Sequence[Sequence[int]]], text_ids: Sequence[Sequence[int]] | None = None) -> Tokens:
    """Lay tokenised rows of T tasks end to end; tasks with fewer rows than others get absent ones at the end."""
    width = max(map(len, rows), default=0)
    lengths = torch.zeros(len(rows), width, dtype=torch.long)
    ids = torch.full((len(rows), width), -1, dtype=torch.long)
    for task, texts in enumerate(rows):
        lengths[task, : len(texts)] = torch.tensor([len(text) for text in texts], dtype=torch.long)
        if text_ids is not None:
            ids[task, : len(texts)] = torch.tensor(text_ids[task], dtype=torch.long)
    flat = [token for texts in rows for text in texts for token in text]
    return Tokens(torch.tensor(flat, dtype=torch.long), lengths, ids)


def labels_of(rows: Sequence[Sequence[int] | np.ndarray]) -> torch.Tensor:
    """Return labels `[T, S]` of T tasks, `ABSENT` where a task has fewer rows than others."""
    labels = torch.full((len(rows), max(map(len, rows), default=0)), ABSENT, dtype=torch.long)
    for task, values in enumerate(rows):
        labels[task, : len(values)] = torch.as_tensor(np.asarray(values, dtype=np.int64))
    return labels


class Collator:
    """Turns episodes into the tensors a learner takes; each text is tokenised once.

    Args:
        sources: the labelled texts the episodes' rows point into.
        tokenize: texts → token numbers, special tokens included (an encoder's `tokenize`).
    """

    def __init__(self, sources: Sequence[LabeledTexts], tokenize: Tokenize) -> None:
        self.sources = list(sources)
        self._first = np.cumsum([0, *(len(texts.classes) for texts in sources)])  # number of a source's first class
        self._tokenize = tokenize
        self._known: dict[str, tuple[int, list[int]]] = {}

    def __call__(self, episodes: Sequence[Episode], *, names: bool = True) -> EpisodeBatch:
        """Return the batch of these episodes, on the CPU, with or without the class names (or descriptions)."""
        texts = [self.sources[episode.source] for episode in episodes]
        supports = [[own.texts[row] for row in ep.support] for own, ep in zip(texts, episodes, strict=True)]
        queries = [[own.texts[row] for row in ep.query] for own, ep in zip(texts, episodes, strict=True)]
        words = [[own.words(c) if names else "" for c in ep.classes] for own, ep in zip(texts, episodes, strict=True)]
        ways = torch.tensor([len(episode.classes) for episode in episodes])
        return EpisodeBatch(
            Support(
                tokens=self.tokens(supports),
                labels=labels_of([episode.support_labels for episode in episodes]),
                names=self.tokens(words),
                class_mask=torch.arange(int(ways.max())) < ways[:, None],
                about=self.tokens([[own.about] for own in texts]) if any(own.about for own in texts) else None,
            ),
            Query(self.tokens(queries), labels_of([episode.query_labels for episode in episodes])),
            labels_of([self._first[episode.source] + episode.classes for episode in episodes]),
        )

    def tokens(self, rows: Sequence[Sequence[str]]) -> Tokens:
        """Tokenise the texts of T tasks; an empty text becomes an absent row."""
        new = list(dict.fromkeys(t for texts in rows for t in texts if t and t not in self._known))
        for text, ids in zip(new, self._tokenize(new) if new else [], strict=True):
            self._known[text] = (len(self._known), ids)
        found = [[self._known[text] if text else (-1, []) for text in texts] for texts in rows]
        return ragged([[ids for _, ids in texts] for texts in found], [[n for n, _ in texts] for texts in found])
