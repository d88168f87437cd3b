"""Prototypical networks: a class is the mean of its examples (Snell et al. 2017, https://arxiv.org/abs/1703.05175).

The class's name, or a description of it, joins the examples as `name_weight` further ones (Ma et al. 2022,
https://aclanthology.org/2022.naacl-main.279): a strong prior for one example, a faint one for twenty, and all there
is for a class without any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.learners.base import MetaLearner, MetaOutput, query_loss
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import class_means, cosine, mask_classes, negative_squared_distance
from fewtext.tensors import EpisodeBatch, Support, TaskState, Tokens


@dataclass(frozen=True)
class PrototypicalConfig:
    """Settings of the prototypical learner.

    Attributes:
        distance: cosine similarity, or squared Euclidean distance of embeddings of length 1.
        scale: first value of the learned factor of the logits (an inverse temperature).
        name_weight: how many examples a class name counts for.
        name_loss: share of the training loss in which the names alone, and not the examples, must do.
    """

    distance: Literal["cosine", "euclidean"] = "cosine"
    scale: float = 20.0
    name_weight: float = 1.0
    name_loss: float = 0.5


class Prototypical(MetaLearner, name="prototypical"):
    """Classify by the nearest class mean. State: `prototypes` `[T, N, D]`, `class_mask` `[T, N]`."""

    Config = PrototypicalConfig

    def __init__(self, encoder: Encoder, config: PrototypicalConfig | None = None) -> None:
        super().__init__(encoder, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))

    def adapt(self, support: Support) -> TaskState:
        """Return the prototypes; no gradient step is taken."""
        return self._state(support, *self._embed(support))

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return scaled similarities to the prototypes."""
        return self._logits(state, F.normalize(self.encoder(query), dim=-1))

    def linear(self, state: TaskState) -> tuple[TaskState, Tensor, Tensor] | None:
        """Return the prototypes as a linear head: |x − p|² = 1 − 2 x·p + |p|² for x of length 1."""
        if "prototypes" not in state:
            return super().linear(state)
        scale, prototypes = self.log_scale.exp(), state["prototypes"][0]
        if self.config.distance == "cosine":
            weight = scale * F.normalize(prototypes, dim=-1)
            return {}, weight, weight.new_zeros(len(weight))
        return {}, 2 * scale * prototypes, -scale * prototypes.square().sum(-1)

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the queries' loss against the examples alone and against the names alone.

        Together they would be the easier task, and teach less; so they are only together in the logits returned.
        """
        support, labels = episodes.support, episodes.query.labels
        examples, names = self._embed(support)
        queries = F.normalize(self.encoder(episodes.query.tokens), dim=-1)
        means, counts = class_means(examples, support.labels, support.class_mask.shape[1])
        has_examples, has_names = bool(counts.any()), bool(support.names.lengths.any())
        share = self.config.name_loss if has_examples and has_names else float(has_names)
        loss = queries.new_zeros(())
        for part, prototypes in ((1 - share, means), (share, names)):
            if part:
                alone = {"prototypes": prototypes, "class_mask": support.class_mask}
                loss = loss + part * query_loss(self._logits(alone, queries), labels)
        with torch.no_grad():
            logits = self._logits(self._state(support, examples, names), queries)
        return MetaOutput(loss, logits)

    def _embed(self, support: Support) -> tuple[Tensor, Tensor]:
        """Return unit embeddings of the examples `[T, S, D]` and names `[T, N, D]`; absent rows are zero."""
        examples, names = self.encoder(support.tokens), self.encoder(support.names)
        return F.normalize(examples, dim=-1), F.normalize(names, dim=-1)

    def _state(self, support: Support, examples: Tensor, names: Tensor) -> TaskState:
        means, counts = class_means(examples, support.labels, support.class_mask.shape[1])
        weight = (support.names.lengths > 0) * self.config.name_weight
        total = (counts + weight).clamp(min=torch.finfo(counts.dtype).tiny)
        prototypes = (means * counts[..., None] + names * weight[..., None]) / total[..., None]
        return {"prototypes": prototypes, "class_mask": support.class_mask}

    def _logits(self, state: TaskState, queries: Tensor) -> Tensor:
        similarity = cosine if self.config.distance == "cosine" else negative_squared_distance
        logits = self.log_scale.exp() * similarity(queries, state["prototypes"])
        return mask_classes(logits, state["class_mask"])
