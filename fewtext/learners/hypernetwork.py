"""A hypernetwork: one network reads a task's examples and writes the weights of the encoder and the head for it.

As in LEOPARD (Bansal et al. 2020, https://arxiv.org/abs/1911.03863) the head comes from the examples; and here so do
the LoRA adapters, without the gradient steps which follow there. To write whole adapters would take more weights than
the encoder has. What is written is how much of each of a few learned directions is added to the encoder's own
adapters, at first nothing: untrained, this is the prototypical learner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.errors import LearnerError
from fewtext.learners.base import MetaLearner, MetaOutput, query_loss
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import mask_classes, members, weighted_means
from fewtext.tensors import EpisodeBatch, Support, TaskState, Tokens

HEAD, MASK = "head", "class_mask"
FIRST = 0.02  # typical first entry of a direction


@dataclass(frozen=True)
class HypernetworkConfig:
    """Settings of the hypernetwork.

    Attributes:
        directions: learned directions per adapter; a task gets a mixture of them.
        width: of the task's embedding, and of the hidden layers.
        attention_heads: of the attention that makes the task's embedding of its classes.
        scale: first value of the learned factor of the logits.
        name_weight: how many examples a class name counts for.
        name_loss: share of the training loss in which the names alone, and not the examples, must do.
    """

    directions: int = 4
    width: int = 64
    attention_heads: int = 4
    scale: float = 20.0
    name_weight: float = 1.0
    name_loss: float = 0.5


class Hypernetwork(MetaLearner, name="hypernetwork"):
    """Write LoRA and a head for each task in forward passes alone.

    State: `head` `[T, N, D]`, `class_mask` `[T, N]`, and the written adapters by name, `[T, …]`.

    Raises:
        LearnerError: an encoder without LoRA.
    """

    Config = HypernetworkConfig
    own_lr = 2e-4

    def __init__(self, encoder: Encoder, config: HypernetworkConfig | None = None) -> None:
        super().__init__(encoder, config)
        own = {name: value for name, value in encoder.backbone.named_parameters() if name in encoder.task_weights}
        self.written = [name for name in own if "lora_B" in name]
        if not self.written:
            raise LearnerError("hypernetwork writes LoRA adapters, and the encoder has none. Give it lora=Lora().")
        size, width, count = encoder.dimension, self.config.width, self.config.directions
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))
        self.spread = nn.LayerNorm(size, elementwise_affine=False)  # from length 1 to numbers about 1
        self.read = nn.Sequential(self.spread, nn.Linear(size, width, bias=False), nn.Tanh())
        self.attend = nn.Linear(width, self.config.attention_heads)
        self.summarise = nn.Sequential(
            nn.Linear(self.config.attention_heads * width, width, bias=False),
            nn.LayerNorm(width, elementwise_affine=False),
        )
        self.mix = nn.Linear(width, len(self.written) * count, bias=False)
        self.directions = nn.ParameterList(FIRST * torch.randn(count, *own[name].shape) for name in self.written)
        self.move = nn.Sequential(nn.Linear(size + width, width), nn.GELU(), nn.Linear(width, size))
        for weight in (self.mix.weight, *self.move[-1].parameters()):
            nn.init.zeros_(weight)

    def adapt(self, support: Support) -> TaskState:
        """Return the adapters and the head; no gradient step is taken."""
        weights = self._weights(support)
        task, adapters = self._write(support, weights)
        head = self._head(task, self._embed(support, adapters), weights)
        return {HEAD: head, MASK: support.class_mask, **adapters}

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the logits of the written head on the encoder with the written adapters."""
        vectors = F.normalize(self.encoder(query, {name: state[name] for name in self.written}), dim=-1)
        return self._logits(state[HEAD], state[MASK], vectors)

    def linear(self, state: TaskState) -> tuple[TaskState, Tensor, Tensor] | None:
        """Return the written head, and the adapters it belongs to."""
        if HEAD not in state:
            return super().linear(state)
        weight = self.log_scale.exp() * state[HEAD][0]
        return {name: state[name][0] for name in self.written}, weight, weight.new_zeros(len(weight))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the queries' loss with a head of the examples alone and with one of the names alone.

        Together they would be the easier task, and teach less; so they are only together in the logits returned.
        """
        support, weights = episodes.support, self._weights(episodes.support)
        task, adapters = self._write(support, weights)
        rows = self._embed(support, adapters)
        queries = F.normalize(self.encoder(episodes.query.tokens, adapters), dim=-1)
        named = torch.arange(rows.shape[1], device=rows.device)[:, None] >= support.labels.shape[1]
        examples, names = weights * ~named, weights * named
        share = self.config.name_loss if examples.any() and names.any() else float(names.any())
        loss = queries.new_zeros(())
        for part, seen in ((1 - share, examples), (share, names)):
            if part:
                logits = self._logits(self._head(task, rows, seen), support.class_mask, queries)
                loss = loss + part * query_loss(logits, episodes.query.labels)
        with torch.no_grad():
            logits = self._logits(self._head(task, rows, weights), support.class_mask, queries)
        return MetaOutput(loss, logits)

    def _write(self, support: Support, weights: Tensor) -> tuple[Tensor, TaskState]:
        """Return the task's embedding `[T, width]` and its adapters by name."""
        classes, totals = weighted_means(self._embed(support), weights)
        features = self.read(classes)
        known = ((totals > 0) & support.class_mask)[..., None]
        attention = self.attend(features).masked_fill(~known, torch.finfo(features.dtype).min).softmax(dim=1)
        task = self.summarise((attention.mT @ features).flatten(1))
        mixtures = self.mix(task).chunk(len(self.written), dim=-1)
        own = dict(self.encoder.backbone.named_parameters())
        return task, {
            name: own[name] + torch.einsum("tk,kor->tor", mixture, directions)
            for name, mixture, directions in zip(self.written, mixtures, self.directions, strict=True)
        }

    def _weights(self, support: Support) -> Tensor:
        weights = members(support.labels, support.names.lengths > 0, self.config.name_weight)
        return weights.to(self.log_scale.dtype)

    def _embed(self, support: Support, adapters: TaskState | None = None) -> Tensor:
        """Return unit embeddings of the texts, then the names, `[T, S + N, D]`; absent rows are zero."""
        parts = (self.encoder(tokens, adapters) for tokens in (support.tokens, support.names))
        return F.normalize(torch.cat([*parts], dim=1), dim=-1)

    def _head(self, task: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        means, totals = weighted_means(rows, weights)
        context = torch.cat([self.spread(means), task[:, None].expand(-1, means.shape[1], -1)], dim=-1)
        # What the task says of a class counts as one example of it, and fades as there are more.
        return F.normalize(means + self.move(context) / totals.clamp(min=1)[..., None], dim=-1)

    def _logits(self, head: Tensor, class_mask: Tensor, queries: Tensor) -> Tensor:
        return mask_classes(self.log_scale.exp() * queries @ head.mT, class_mask)
