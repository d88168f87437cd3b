"""Conditional neural processes: a set network reads a task once, and a decoder answers under what it has read.

After Garnelo et al. 2018 (https://arxiv.org/abs/1807.01613): every example goes through the same network, and means
over the examples of a class, then over the classes, stand for the task; so neither order nor number matters. A
sentence on what the texts are about, where there is one, is added. The decoder looks at one query and one class at a
time, so there may be any number of classes.

It all adds to cosine similarities to the class means, and its last layers begin at zero: untrained, this is the
prototypical learner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.learners.base import MetaLearner, MetaOutput, query_loss
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import cosine, mask_classes, members, weighted_means
from fewtext.tensors import EpisodeBatch, Support, TaskState, Tokens


@dataclass(frozen=True)
class NeuralProcessConfig:
    """Settings of the conditional neural process.

    Attributes:
        width: of the hidden layers, and of the vectors that stand for a class and for the task.
        scale: first value of the learned factor of the cosine similarities.
        name_weight: how many examples a class name counts for.
        name_loss: share of the training loss in which the names alone, and not the examples, must do.
        plain_loss: share of the training loss in which it must do without the task's description.
    """

    width: int = 128
    scale: float = 20.0
    name_weight: float = 1.0
    name_loss: float = 0.5
    plain_loss: float = 0.5


class NeuralProcess(MetaLearner, name="cnp"):
    """Classify by what a decoder says of query, class and task.

    State: `prototypes` `[T, N, D]`, the class means where the task moves them to; `task` `[T, width]`, what stands
    for it; `class_mask` `[T, N]`.
    """

    Config = NeuralProcessConfig
    own_lr = 2e-4

    def __init__(self, encoder: Encoder, config: NeuralProcessConfig | None = None) -> None:
        super().__init__(encoder, config)
        size, width = encoder.dimension, self.config.width
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))
        spread = nn.LayerNorm(size, elementwise_affine=False)  # from length 1 to numbers about 1, and from 0 to 0
        self.read = nn.Sequential(spread, nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))
        self.read_about = nn.Sequential(spread, nn.Linear(size, width, bias=False))
        self.move = nn.Sequential(nn.Linear(size + 2 * width, width), nn.GELU(), nn.Linear(width, size))
        self.query_features = nn.Sequential(spread, nn.Linear(size, 2 * width, bias=False))
        self.class_features = nn.Sequential(spread, nn.Linear(size, 2 * width, bias=False))
        self.decide = nn.Linear(width, 1, bias=False)
        for weight in (*self.move[-1].parameters(), self.decide.weight):
            nn.init.zeros_(weight)

    def adapt(self, support: Support) -> TaskState:
        """Return what the task is; no gradient step is taken."""
        return self._state(support.class_mask, self._weights(support), *self._embed(support))

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the decoder's logits."""
        return self._logits(state, F.normalize(self.encoder(query), dim=-1))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the queries' loss with examples alone and names alone, each with the task's description and without.

        All together would be the easier task, and teach less; so they are only together in the logits returned.
        """
        support, weights = episodes.support, self._weights(episodes.support)
        rows, about = self._embed(support)
        queries = F.normalize(self.encoder(episodes.query.tokens), dim=-1)
        named = torch.arange(rows.shape[1], device=rows.device)[:, None] >= support.labels.shape[1]
        examples, names = weights * ~named, weights * named
        share = self.config.name_loss if examples.any() and names.any() else float(names.any())
        plain = self.config.plain_loss if about.any() else 1.0
        loss = queries.new_zeros(())
        for part, seen in ((1 - share, examples), (share, names)):
            for rest, told in ((1 - plain, about), (plain, torch.zeros_like(about))):
                if part * rest:
                    logits = self._logits(self._state(support.class_mask, seen, rows, told), queries)
                    loss = loss + part * rest * query_loss(logits, episodes.query.labels)
        with torch.no_grad():
            logits = self._logits(self._state(support.class_mask, weights, rows, about), queries)
        return MetaOutput(loss, logits)

    def _weights(self, support: Support) -> Tensor:
        weights = members(support.labels, support.names.lengths > 0, self.config.name_weight)
        return weights.to(self.log_scale.dtype)

    def _embed(self, support: Support) -> tuple[Tensor, Tensor]:
        """Return unit embeddings of texts, then names, `[T, S + N, D]` and descriptions `[T, D]`; zero for none."""
        rows = torch.cat([self.encoder(support.tokens), self.encoder(support.names)], dim=1)
        about = torch.zeros_like(rows[:, 0]) if support.about is None else self.encoder(support.about)[:, 0]
        return F.normalize(rows, dim=-1), F.normalize(about, dim=-1)

    def _state(self, class_mask: Tensor, weights: Tensor, rows: Tensor, about: Tensor) -> TaskState:
        means, totals = weighted_means(torch.cat([rows, self.read(rows)], dim=-1), weights)
        prototypes, readings = means.split([rows.shape[-1], self.config.width], dim=-1)
        known = ((totals > 0) & class_mask).to(means.dtype)[..., None]
        task = (readings * known).sum(1) / known.sum(1).clamp(min=1) + self.read_about(about)
        move = self.move(torch.cat([prototypes, readings, task[:, None].expand_as(readings)], dim=-1))
        # What the task says of a class counts as one example of it, and fades as there are more.
        prototypes = prototypes + move / totals.clamp(min=1)[..., None]
        return {"prototypes": prototypes, "task": task, "class_mask": class_mask}

    def _logits(self, state: TaskState, queries: Tensor) -> Tensor:
        prototypes, task = F.normalize(state["prototypes"], dim=-1), state["task"]
        query, query_factor = self.query_features(queries)[:, :, None].chunk(2, dim=-1)
        own, own_factor = self.class_features(prototypes)[:, None].chunk(2, dim=-1)
        hidden = F.gelu(query + own + query_factor * own_factor + task[:, None, None])
        logits = self.log_scale.exp() * cosine(queries, prototypes) + self.decide(hidden).squeeze(-1)
        return mask_classes(logits, state["class_mask"])
