"""Matching networks: a class is as likely as the attention that a text pays to its examples (Vinyals et al. 2016).

https://arxiv.org/abs/1606.04080, with full-context embeddings on both sides. There the supports are read by a
bidirectional LSTM, in an order that means nothing; here they attend to each other instead. A query is read as it is
there, by an LSTM that looks at the supports before every read. Both add to the encoder's embeddings, and at first
they add nothing: untrained, attention is the softmax of scaled cosines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.learners.base import MetaLearner, MetaOutput, query_loss
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import cosine, log_sum_exp, mask_classes, members
from fewtext.tensors import EpisodeBatch, Support, TaskState, Tokens


@dataclass(frozen=True)
class MatchingConfig:
    """Settings of the matching learner.

    Attributes:
        scale: first value of the learned factor of the cosines (an inverse temperature).
        name_weight: how many examples a class name counts for.
        name_loss: share of the training loss in which the names alone, and not the examples, must do.
        width: numbers by which supports find each other.
        reads: how often a query looks at the supports; 0 leaves its embedding as it is.
    """

    scale: float = 20.0
    name_weight: float = 1.0
    name_loss: float = 0.5
    width: int = 64
    reads: int = 1


class Matching(MetaLearner, name="matching"):
    """Classify by attention over the examples and names.

    State: `keys` `[T, S + N, D]`, what each counts for each class, `values` `[T, S + N, N]`, `class_mask` `[T, N]`.
    """

    Config = MatchingConfig
    own_lr: ClassVar[float] = 2e-4  # faster, the networks learn what holds for the training classes only

    def __init__(self, encoder: Encoder, config: MatchingConfig | None = None) -> None:
        super().__init__(encoder, config)
        size, width = encoder.dimension, self.config.width
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))
        self.project = nn.Linear(size, 3 * width)
        self.context = nn.Linear(width, size)
        self.reader = nn.LSTMCell(2 * size, size)
        with torch.no_grad():
            for weight in self.context.parameters():
                weight.zero_()
            for weight in self.reader.parameters():
                weight[2 * size : 3 * size].zero_()  # the gate of what enters the memory, which so stays empty

    def adapt(self, support: Support) -> TaskState:
        """Return the supports in full context; no gradient step is taken."""
        return self._state(*self._embed(support), support.class_mask)

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the logarithm of the attention to each class's examples."""
        return self._logits(state, F.normalize(self.encoder(query), dim=-1))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the queries' loss against the examples alone and against the names alone.

        Together they would be the easier task, and teach less; so they are only together in the logits returned.
        """
        support = episodes.support
        rows, values = self._embed(support)
        queries = F.normalize(self.encoder(episodes.query.tokens), dim=-1)
        named = torch.arange(rows.shape[1], device=rows.device)[:, None] >= support.labels.shape[1]
        examples, names = values * ~named, values * named
        share = self.config.name_loss if examples.any() and names.any() else float(names.any())
        loss = queries.new_zeros(())
        for part, alone in ((1 - share, examples), (share, names)):
            if part:
                logits = self._logits(self._state(rows, alone, support.class_mask), queries)
                loss = loss + part * query_loss(logits, episodes.query.labels)
        with torch.no_grad():
            logits = self._logits(self._state(rows, values, support.class_mask), queries)
        return MetaOutput(loss, logits)

    def _embed(self, support: Support) -> tuple[Tensor, Tensor]:
        """Return unit embeddings of examples and names `[T, S + N, D]`, and what they count `[T, S + N, N]`."""
        rows = torch.cat([self.encoder(support.tokens), self.encoder(support.names)], dim=1)
        named = (support.names.lengths > 0).to(rows.dtype)
        return F.normalize(rows, dim=-1), members(support.labels, named, self.config.name_weight)

    def _state(self, rows: Tensor, values: Tensor, class_mask: Tensor) -> TaskState:
        queries, keys, contents = self.project(rows).chunk(3, dim=-1)
        found = _attention(queries @ keys.mT / math.sqrt(self.config.width), values) @ contents
        keys = F.normalize(rows + self.context(found), dim=-1)
        return {"keys": keys, "values": values, "class_mask": class_mask}

    def _logits(self, state: TaskState, queries: Tensor) -> Tensor:
        scale, keys, values = self.log_scale.exp(), state["keys"], state["values"]
        read, memory = queries, torch.zeros_like(queries)
        for _ in range(self.config.reads):
            seen = _attention(scale * cosine(read, keys), values) @ keys
            inputs = torch.cat([queries, seen], dim=-1).flatten(0, 1)
            new, memory = self.reader(inputs, (read.flatten(0, 1), memory.flatten(0, 1)))
            read, memory = queries + new.view_as(queries), memory.view_as(queries)
        return mask_classes(log_sum_exp(scale * cosine(read, keys), values), state["class_mask"])


def _attention(scores: Tensor, values: Tensor) -> Tensor:
    """Return the softmax of scores `[T, Q, R]` over rows, each as often as `values` `[T, R, N]` count it."""
    counts = values.sum(-1).clamp(min=torch.finfo(values.dtype).tiny)
    return (scores + counts.log()[:, None]).softmax(-1)
