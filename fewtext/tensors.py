"""The few values that travel between rooms.

Shape legend, used everywhere: T tasks, S support rows, Q query rows, N classes, D embedding, R LoRA rank.
The task dimension always comes first, so tasks can be batched, sliced, stored and retrieved alike.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

ABSENT = -100
"""Label of a row that is not there; the value PyTorch's cross-entropy ignores."""

TaskState: TypeAlias = dict[str, Tensor]
"""What a learner knows about T tasks after adapting: every tensor has a leading T."""


class Tokens(NamedTuple):
    """Tokenised texts without padding, row after row, task after task.

    Attributes:
        ids: `[total]`, the tokens of all rows end to end.
        lengths: `[T, S]`, tokens per row; 0 marks an absent row.
        text_ids: `[T, S]`, a stable number per text (a cache key), -1 where unknown.
    """

    ids: Tensor
    lengths: Tensor
    text_ids: Tensor

    def to(self, device: torch.device | str) -> Tokens:
        """Return the same tokens on `device`."""
        return Tokens(*(tensor.to(device) for tensor in self))

    def beside(self, other: Tokens) -> Tokens:
        """Return the rows of both, `[T, S + S']`, of the same T tasks."""
        parts = zip(*(own.ids.split(own.lengths.sum(1).tolist()) for own in (self, other)), strict=True)
        rows = (torch.cat(pair, dim=1) for pair in zip(self[1:], other[1:], strict=True))
        return Tokens(torch.cat([ids for pair in parts for ids in pair]), *rows)


class Support(NamedTuple):
    """The labelled texts of T tasks.

    Attributes:
        tokens: the texts, `[T, S]` rows.
        labels: `[T, S]`, class numbers below N; `ABSENT` where there is no row.
        names: `[T, N]` rows, a label name or description per class; length 0 means none.
        class_mask: `[T, N]`, False where a task has fewer than N classes.
        about: `[T, 1]` rows, a description of each task; length 0, or None for all, means none.
    """

    tokens: Tokens
    labels: Tensor
    names: Tokens
    class_mask: Tensor
    about: Tokens | None = None

    def to(self, device: torch.device | str) -> Support:
        """Return the same support on `device`."""
        about = None if self.about is None else self.about.to(device)
        own = self.tokens.to(device), self.labels.to(device), self.names.to(device), self.class_mask.to(device)
        return Support(*own, about)


class Query(NamedTuple):
    """The texts of T tasks that are to be classified: `tokens` `[T, Q]` rows and `labels` `[T, Q]`."""

    tokens: Tokens
    labels: Tensor

    def to(self, device: torch.device | str) -> Query:
        """Return the same query on `device`."""
        return Query(self.tokens.to(device), self.labels.to(device))


class EpisodeBatch(NamedTuple):
    """T episodes.

    Attributes:
        support: what is learnt from.
        query: what is asked.
        classes: `[T, N]`, the number of each class among those of all sources, `ABSENT` where a task has none; None
            where the episodes come from nowhere.
    """

    support: Support
    query: Query
    classes: Tensor | None = None

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """Return the same episodes on `device`."""
        classes = None if self.classes is None else self.classes.to(device)
        return EpisodeBatch(self.support.to(device), self.query.to(device), classes)
