"""Siamese networks: a class is as likely as a text is to match its examples, judged pair by pair (Koch et al. 2015).

https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf. Two texts are of one class with the probability
σ(b − Σⱼ wⱼ (xⱼ − yⱼ)²) of their embeddings x and y. Training asks that of all pairs of an episode's texts, names
included. At first all weights are alike: untrained, the similarity is a scaled cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.learners.base import MetaLearner, MetaOutput
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import log_sum_exp, mask_classes, members
from fewtext.tensors import ABSENT, EpisodeBatch, Support, TaskState, Tokens


@dataclass(frozen=True)
class SiameseConfig:
    """Settings of the siamese learner.

    Attributes:
        scale: first value of the factor of the cosines, which is twice each learned weight.
        name_weight: how many examples a class name counts for.
    """

    scale: float = 20.0
    name_weight: float = 1.0


class Siamese(MetaLearner, name="siamese"):
    """Classify by the mean odds of being of one class with the examples and names.

    State: `keys` `[T, S + N, D]`, each one's share in its class, `values` `[T, S + N, N]`, `class_mask` `[T, N]`.
    """

    Config = SiameseConfig

    def __init__(self, encoder: Encoder, config: SiameseConfig | None = None) -> None:
        super().__init__(encoder, config)
        half = self.config.scale / 2
        self.log_weights = nn.Parameter(torch.full((encoder.dimension,), math.log(half)))
        self.bias = nn.Parameter(torch.tensor(half))  # even odds at a cosine of 0.5

    def adapt(self, support: Support) -> TaskState:
        """Return what the queries are paired with; no gradient step is taken."""
        keys = torch.cat([self._embed(support.tokens), self._embed(support.names)], dim=1)
        named = (support.names.lengths > 0).to(keys.dtype)
        values = members(support.labels, named, self.config.name_weight)
        totals = values.sum(dim=1, keepdim=True)
        return {"keys": keys, "values": values / totals.where(totals > 0, 1), "class_mask": support.class_mask}

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the logarithm of the mean odds."""
        return self._logits(state, self._embed(query))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the cross-entropy of same or different over the pairs of each episode."""
        support = episodes.support
        state, queries = self.adapt(support), self._embed(episodes.query.tokens)
        classes = torch.arange(support.class_mask.shape[1], device=support.labels.device)
        names = classes.where(support.names.lengths > 0, ABSENT)
        rows = torch.cat([state["keys"], queries], dim=1)
        labels = torch.cat([support.labels, names, episodes.query.labels], dim=1)
        return MetaOutput(pair_loss(self._log_odds(rows, rows), labels), self._logits(state, queries))

    def _embed(self, tokens: Tokens) -> Tensor:
        """Return embeddings `[T, S, D]` in whose squared distances each number counts as much as has been learned."""
        return F.normalize(self.encoder(tokens), dim=-1) * (self.log_weights / 2).exp()

    def _log_odds(self, rows: Tensor, others: Tensor) -> Tensor:
        """Return the log-odds `[T, Q, R]` that two texts are of one class."""
        squares, other_squares = rows.square().sum(-1), others.square().sum(-1)
        return self.bias + 2 * rows @ others.mT - squares[:, :, None] - other_squares[:, None]

    def _logits(self, state: TaskState, queries: Tensor) -> Tensor:
        logits = log_sum_exp(self._log_odds(queries, state["keys"]), state["values"])
        return mask_classes(logits, state["class_mask"])


def pair_loss(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy of same or different, averaged over tasks; each kind of pair counts one half.

    Args:
        log_odds: `[T, R, R]`, that two rows are of one class.
        labels: `[T, R]`, `ABSENT` where there is no row.
    """
    first, second = torch.triu_indices(*log_odds.shape[1:], offset=1, device=log_odds.device)
    one, other, log_odds = labels[:, first], labels[:, second], log_odds[:, first, second]
    real = (one != ABSENT) & (other != ABSENT)
    same, different = real & (one == other), real & (one != other)
    missed = (F.softplus(-log_odds) * same).sum(1) / same.sum(1).clamp(min=1)
    mistaken = (F.softplus(log_odds) * different).sum(1) / different.sum(1).clamp(min=1)
    return (missed + mistaken).mean() / 2
