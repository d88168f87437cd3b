"""Learners that adapt by gradient descent on the support set, and learn where that descent starts.

First-order MAML (Finn et al. 2017, https://arxiv.org/abs/1703.03400) over the LoRA adapters and a linear head. The
head starts at the class prototypes, so that zero steps are the prototypical learner (Proto-MAML, Triantafillou et al.
2020, https://arxiv.org/abs/1903.03096); or at one learned vector for every class, which is textbook MAML for any
number of ways. With prototypes the meta-gradient has a second path: through the start of the head into the encoder.

Learned step sizes per tensor and step, and a loss after every step, are from MAML++ (Antoniou et al. 2019,
https://arxiv.org/abs/1810.09502).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.learners.base import MetaLearner, MetaOutput, query_loss
from fewtext.nn.descend import descend
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import class_means, mask_classes
from fewtext.tensors import EpisodeBatch, Support, TaskState, Tokens

HEAD, MASK = "head", "class_mask"


@dataclass(frozen=True)
class GradientConfig:
    """Settings of the gradient learners.

    Attributes:
        inner_steps: gradient steps on the support set.
        inner_lr: first value of the inner step size of the encoder's fast weights.
        head_lr: first value of the inner step size of the head.
        learn_step_sizes: learn a step size for every tensor and step.
        head_start: where the head starts: at the class `prototypes`, or at one `learned` vector for every class.
        name_weight: how many examples a class name counts for in a prototype.
        scale: first value of the learned factor of the logits.
        every_step: share of the training loss that is spread over the states before the last step.
    """

    inner_steps: int = 2
    inner_lr: float = 0.02
    head_lr: float = 0.05
    learn_step_sizes: bool = True
    head_start: Literal["prototypes", "learned"] = "prototypes"
    name_weight: float = 1.0
    scale: float = 20.0
    every_step: float = 0.0


class FirstOrderMAML(MetaLearner, name="fomaml"):
    """Adapt LoRA (or, without it, all weights) and a head by gradient steps; learn their start, first order.

    State: `head` `[T, N, D]`, `class_mask` `[T, N]`, and the encoder's fast weights by name, `[T, …]`.
    """

    Config = GradientConfig
    second_order = False

    def __init__(self, encoder: Encoder, config: GradientConfig | None = None) -> None:
        super().__init__(encoder, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))
        self.fast = encoder.task_weights or [name for name, _ in encoder.backbone.named_parameters()]
        if self.config.head_start == "learned":
            self.start = nn.Parameter(torch.zeros(encoder.dimension))
        first = torch.tensor([[math.log(self.config.head_lr)] + [math.log(self.config.inner_lr)] * len(self.fast)])
        sizes = first.repeat(max(1, self.config.inner_steps), 1)
        self.log_step_sizes = nn.Parameter(sizes, requires_grad=self.config.learn_step_sizes)
        self._column = {name: column for column, name in enumerate([HEAD, *self.fast])}

    def adapt(self, support: Support) -> TaskState:
        """Return the state after all inner steps; works under `no_grad`, where the state has no graph."""
        return self._states(support)[-1]

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the logits of the adapted head on the adapted encoder."""
        return mask_classes(self._logits(state, query), state[MASK])

    def linear(self, state: TaskState) -> tuple[TaskState, Tensor, Tensor] | None:
        """Return the adapted head, and the fast weights it belongs to."""
        if HEAD not in state:
            return super().linear(state)
        weight = self.log_scale.exp() * state[HEAD][0]
        return {name: state[name][0] for name in self.fast}, weight, weight.new_zeros(len(weight))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the queries' loss after the last step, and a share of it after each earlier one."""
        *earlier, last = self._states(episodes.support)
        logits = self.predict(last, episodes.query.tokens)
        loss = query_loss(logits, episodes.query.labels)
        share = self.config.every_step if earlier else 0.0
        if share:
            losses = [query_loss(self.predict(s, episodes.query.tokens), episodes.query.labels) for s in earlier]
            loss = (1 - share) * loss + share * torch.stack(losses).mean()
        return MetaOutput(loss, logits)

    def _states(self, support: Support) -> list[TaskState]:
        """Return the states before the first and after every inner step."""
        outer = torch.is_grad_enabled()
        with torch.enable_grad():
            start = self._start(support) if outer else _leaves(self._start(support))

            def loss(state: TaskState) -> Tensor:
                logits = mask_classes(self._logits(state, support.tokens), support.class_mask)
                losses = F.cross_entropy(logits.mT, support.labels, reduction="none")
                return losses.sum(1) / (support.labels >= 0).sum(1).clamp(min=1)

            states = [
                start,
                *descend(loss, start, self._step_size, self.config.inner_steps, second_order=self.second_order),
            ]
        mask = {MASK: support.class_mask}
        return [
            (state if outer else {name: value.detach() for name, value in state.items()}) | mask for state in states
        ]

    def _start(self, support: Support) -> TaskState:
        tasks, ways = support.class_mask.shape
        own = dict(self.encoder.backbone.named_parameters())
        state = {name: own[name].expand(tasks, *own[name].shape) for name in self.fast}
        if self.config.head_start == "learned":
            return state | {HEAD: self.start.expand(tasks, ways, -1)}
        examples = F.normalize(self.encoder(support.tokens), dim=-1)
        names = F.normalize(self.encoder(support.names), dim=-1)
        means, counts = class_means(examples, support.labels, ways)
        weight = (support.names.lengths > 0) * self.config.name_weight
        return state | {HEAD: F.normalize(means * counts[..., None] + names * weight[..., None], dim=-1)}

    def _logits(self, state: TaskState, tokens: Tokens) -> Tensor:
        weights = {name: state[name] for name in self.fast}
        vectors = F.normalize(self.encoder(tokens, weights), dim=-1)
        return self.log_scale.exp() * vectors @ state[HEAD].mT

    def _step_size(self, step: int, name: str) -> Tensor:
        return self.log_step_sizes[step, self._column[name]].exp()


def _leaves(state: TaskState) -> TaskState:
    """Return the same values as leaves of a new graph, for adapting where nothing else needs gradients."""
    return {name: value.detach().requires_grad_() for name, value in state.items()}
