"""Prototypical networks: a class is the mean of its examples (Snell et al. 2017, https://arxiv.org/abs/1703.05175).

The class's name, or a description of it, joins the examples as `name_weight` further ones (Ma et al. 2022,
https://aclanthology.org/2022.naacl-main.279): a strong prior for one example, a faint one for twenty, and all there
is for a class without any.

Soft k-means moves the prototypes where more is known than the labels say: `refine` lets the texts that are asked pull
at them (Ren et al. 2018, https://arxiv.org/abs/1803.00676), and where labels may be wrong, `label_noise`, an example
counts for the classes that it looks like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.learners.base import MetaLearner, MetaOutput, query_loss
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import (
    class_means,
    cosine,
    left_out,
    mask_classes,
    members,
    negative_squared_distance,
    weighted_means,
)
from fewtext.tensors import EpisodeBatch, Support, TaskState, Tokens


@dataclass(frozen=True)
class PrototypicalConfig:
    """Settings of the prototypical learner.

    Attributes:
        distance: cosine similarity, or squared Euclidean distance of embeddings of length 1.
        scale: first value of the learned factor of the logits (an inverse temperature).
        name_weight: how many examples a class name counts for.
        name_loss: share of the training loss in which the names alone, and not the examples, must do.
        label_noise: share of the examples' labels to expect wrong; 0.02 helps where many more are, and costs little.
        rounds: of soft k-means, against wrong labels and in `refine`.
    """

    distance: Literal["cosine", "euclidean"] = "cosine"
    scale: float = 20.0
    name_weight: float = 1.0
    name_loss: float = 0.5
    label_noise: float = 0.0
    rounds: int = 3


class Prototypical(MetaLearner, name="prototypical"):
    """Classify by the nearest class mean.

    State: `prototypes` `[T, N, D]`, how many examples they are the mean of, `counts` `[T, N]`, `class_mask` `[T, N]`.
    """

    Config = PrototypicalConfig
    transductive: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, config: PrototypicalConfig | None = None) -> None:
        super().__init__(encoder, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))

    def adapt(self, support: Support) -> TaskState:
        """Return the prototypes; no gradient step is taken."""
        return self._state(support, *self._embed(support))

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return scaled similarities to the prototypes."""
        return self._logits(state, F.normalize(self.encoder(query), dim=-1))

    def refine(self, state: TaskState, query: Tokens) -> TaskState:
        """Return prototypes to which every query belongs as well, as far as it is likely to be of their class."""
        queries, refined = F.normalize(self.encoder(query), dim=-1), state
        rows = torch.cat([state["prototypes"], queries], dim=1)
        for _ in range(self.config.rounds):
            chances = self._logits(refined, queries).softmax(-1) * (query.lengths > 0)[..., None]
            prototypes, counts = weighted_means(rows, torch.cat([torch.diag_embed(state["counts"]), chances], dim=1))
            refined = state | {"prototypes": prototypes, "counts": counts}
        return refined

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
        rows = torch.cat([examples, names], dim=1)
        named = (support.names.lengths > 0).to(rows.dtype)
        weights = members(support.labels, named, self.config.name_weight)
        if self.config.label_noise:
            weights = self._doubted(rows, weights, support)
        prototypes, counts = weighted_means(rows, weights)
        return {"prototypes": prototypes, "counts": counts, "class_mask": support.class_mask}

    def _doubted(self, rows: Tensor, given: Tensor, support: Support) -> Tensor:
        """Return how much each row counts for each class, `[T, S + N, N]`, if labels are wrong as often as expected.

        An example is compared with the prototypes without itself; it stays where it is if it is its class's only one.
        """
        own, noise = given > 0, self.config.label_noise
        others = support.class_mask.to(rows.dtype).sum(1)[:, None, None] - 1
        prior = mask_classes(torch.where(own, 1 - noise, noise / others).log(), support.class_mask)
        example = torch.arange(rows.shape[1], device=rows.device) < support.labels.shape[1]
        several = (own & example[:, None]).sum(dim=1, keepdim=True) > 1
        doubtful = example[:, None] & (own & several).any(-1, keepdim=True)
        weights = given
        for _ in range(self.config.rounds):
            dot, square = left_out(rows, weights)
            cosines = dot * square.clamp(min=torch.finfo(rows.dtype).tiny).rsqrt()
            alike = cosines if self.config.distance == "cosine" else 2 * dot - square - 1
            weights = torch.where(doubtful, (prior + self.log_scale.exp() * alike).softmax(-1), given)
        return weights

    def _logits(self, state: TaskState, queries: Tensor) -> Tensor:
        similarity = cosine if self.config.distance == "cosine" else negative_squared_distance
        logits = self.log_scale.exp() * similarity(queries, state["prototypes"])
        return mask_classes(logits, state["class_mask"])
