"""Learners that adapt by gradient descent on the support set, and learn where that descent starts.

All descend over the LoRA adapters and a linear head. The head starts at the class prototypes, so that zero steps are
the prototypical learner (Proto-MAML, Triantafillou et al. 2020, https://arxiv.org/abs/1903.03096); or at one learned
vector for every class, which is textbook MAML for any number of ways. With prototypes the meta-gradient has a second
path: through the start of the head into the encoder.

They differ in what is fast, in the step sizes, and in the meta-gradient:

- MAML and first-order MAML (Finn et al. 2017, https://arxiv.org/abs/1703.03400), with learned step sizes per tensor
  and step and a loss after every step from MAML++ (Antoniou et al. 2019, https://arxiv.org/abs/1810.09502);
- ANIL (Raghu et al. 2020, https://arxiv.org/abs/1909.09157): only the head is fast;
- Meta-SGD (Li et al. 2017, https://arxiv.org/abs/1707.09835): a learned step size for every single weight;
- Reptile, in a file of its own.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewtext.errors import LearnerError
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
        inner_loss: what is descended: with `leave_out`, the loss of each example under prototypes without it, by the
            encoder alone; or, with `fit`, that of all under the head, which fits them already where it starts from
            their prototypes.
    """

    inner_steps: int = 2
    inner_lr: float = 0.1
    head_lr: float = 0.05
    learn_step_sizes: bool = True
    head_start: Literal["prototypes", "learned"] = "prototypes"
    name_weight: float = 1.0
    scale: float = 20.0
    every_step: float = 0.0
    inner_loss: Literal["leave_out", "fit"] = "leave_out"


@dataclass(frozen=True)
class ANILConfig(GradientConfig):
    """Settings of ANIL, whose head `fit`s all examples; see `GradientConfig`."""

    inner_loss: Literal["leave_out", "fit"] = "fit"


class FirstOrderMAML(MetaLearner, name="fomaml"):
    """Adapt LoRA (or, without it, all weights) and a head by gradient steps; learn their start, first order.

    State: `head` `[T, N, D]`, `class_mask` `[T, N]`, and the encoder's fast weights by name, `[T, …]`.
    """

    Config: ClassVar[type] = GradientConfig
    second_order: ClassVar[bool] = False
    """Differentiate through the inner steps, too."""
    fast_body: ClassVar[bool] = True
    """Adapt the encoder, and not only the head."""

    def __init__(self, encoder: Encoder, config: GradientConfig | None = None) -> None:
        super().__init__(encoder, config)
        if self.config.inner_loss == "leave_out" and (self.config.head_start == "learned" or not self.fast_body):
            raise LearnerError(
                f"{self.name}: inner_loss='leave_out' adapts the encoder under prototypes. With "
                "head_start='learned', and with anil, use inner_loss='fit'."
            )
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))
        body = encoder.task_weights or [name for name, _ in encoder.backbone.named_parameters()]
        self.fast = body if self.fast_body else []
        if self.config.head_start == "learned":
            self.start = nn.Parameter(torch.zeros(encoder.dimension))
        self._column = {name: column for column, name in enumerate([HEAD, *self.fast])}
        self._make_step_sizes()

    def adapt(self, support: Support) -> TaskState:
        """Return the state after all inner steps; works under `no_grad`, where the state has no graph."""
        return self.states(support)[-1]

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the logits of the adapted head on the adapted encoder."""
        return self._logits(state, self._embed(state, query))

    def linear(self, state: TaskState) -> tuple[TaskState, Tensor, Tensor] | None:
        """Return the adapted head, and the fast weights it belongs to."""
        if HEAD not in state:
            return super().linear(state)
        weight = self.log_scale.exp() * state[HEAD][0]
        return {name: state[name][0] for name in self.fast}, weight, weight.new_zeros(len(weight))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the queries' loss after the last step, and a share of it after each earlier one."""
        *earlier, last = self.states(episodes.support)
        logits = self.predict(last, episodes.query.tokens)
        loss = query_loss(logits, episodes.query.labels)
        share = self.config.every_step if earlier else 0.0
        if share:
            losses = [query_loss(self.predict(s, episodes.query.tokens), episodes.query.labels) for s in earlier]
            loss = (1 - share) * loss + share * torch.stack(losses).mean()
        return MetaOutput(loss, logits)

    def states(self, support: Support, prior: Support | None = None) -> list[TaskState]:
        """Return the states of T tasks before the first and after every inner step.

        Args:
            support: what is descended on.
            prior: what the head starts from, if not that.
        """
        outer, mask = torch.is_grad_enabled(), {MASK: support.class_mask}
        exact = self.second_order and outer
        # PyTorch's fused attention cannot be differentiated twice; ours, of texts end to end, can.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH) if exact else nullcontext():
            leave_out = self.config.inner_loss == "leave_out"
            start = self._body(support) if leave_out else self._start(prior or support)
            start = start if outer else _leaves(start)
            fixed = None if self.fast else self._embed(start, support.tokens)

            def loss(state: TaskState) -> Tensor:
                if leave_out:
                    logits = self._left_out(support, state)
                else:
                    logits = self._logits(
                        state | mask, self._embed(state, support.tokens) if fixed is None else fixed
                    )
                losses = F.cross_entropy(logits.mT, support.labels, reduction="none")
                return losses.sum(1) / (support.labels >= 0).sum(1).clamp(min=1)

            descent = descend(loss, start, self._step_size, self.config.inner_steps, second_order=exact)
            states = [start, *descent]
            if leave_out:
                states = [body | {HEAD: self._head(prior or support, body)} for body in states]
        return [
            (state if outer else {name: value.detach() for name, value in state.items()}) | mask for state in states
        ]

    def _body(self, support: Support) -> TaskState:
        """Return the fast weights that T tasks start with."""
        own, tasks = dict(self.encoder.backbone.named_parameters()), len(support.labels)
        return {name: own[name].expand(tasks, *own[name].shape) for name in self.fast}

    def _start(self, support: Support) -> TaskState:
        return self._body(support) | {HEAD: self._head(support, None)}

    def _head(self, support: Support, weights: TaskState | None) -> Tensor:
        """Return the first head `[T, N, D]` over an encoder with these weights."""
        if self.config.head_start == "learned":
            return self.start.expand(*support.class_mask.shape, -1)
        return F.normalize(self._sums(support, weights)[1], dim=-1)

    def _sums(self, support: Support, weights: TaskState | None) -> tuple[Tensor, Tensor]:
        """Return the examples' unit embeddings `[T, S, D]`, and their sums by class, names included, `[T, N, D]`."""
        examples, names = (
            F.normalize(self.encoder(tokens, weights), dim=-1) for tokens in (support.tokens, support.names)
        )
        means, counts = class_means(examples, support.labels, support.class_mask.shape[1])
        weight = (support.names.lengths > 0) * self.config.name_weight
        return examples, means * counts[..., None] + names * weight[..., None]

    def _left_out(self, support: Support, body: TaskState) -> Tensor:
        """Return the logits `[T, S, N]` of each example under prototypes that do not contain it."""
        examples, sums = self._sums(support, body)
        cosines = examples @ F.normalize(sums, dim=-1).mT
        own = sums.gather(1, support.labels.clamp(min=0)[..., None].expand_as(examples)) - examples
        without = (examples * F.normalize(own, dim=-1)).sum(-1, keepdim=True)
        is_own = support.labels[..., None] == torch.arange(sums.shape[1], device=sums.device)
        return mask_classes(self.log_scale.exp() * torch.where(is_own, without, cosines), support.class_mask)

    def _embed(self, state: TaskState, tokens: Tokens) -> Tensor:
        weights = {name: state[name] for name in self.fast}
        return F.normalize(self.encoder(tokens, weights or None), dim=-1)

    def _logits(self, state: TaskState, vectors: Tensor) -> Tensor:
        return mask_classes(self.log_scale.exp() * vectors @ state[HEAD].mT, state[MASK])

    def _make_step_sizes(self) -> None:
        first = torch.tensor([[math.log(self.config.head_lr)] + [math.log(self.config.inner_lr)] * len(self.fast)])
        sizes = first.repeat(max(1, self.config.inner_steps), 1)
        self.log_step_sizes = nn.Parameter(sizes, requires_grad=self.config.learn_step_sizes)

    def _step_size(self, step: int, name: str) -> Tensor:
        return self.log_step_sizes[step, self._column[name]].exp()


class MAML(FirstOrderMAML, name="maml"):
    """Adapt as first-order MAML does; learn the start through the steps, second order. State: the same."""

    second_order = True


class ANIL(FirstOrderMAML, name="anil"):
    """Adapt only a head by gradient steps; learn the encoder under it. State: `head` `[T, N, D]`, `class_mask`."""

    Config = ANILConfig
    second_order = True  # costs next to nothing: the texts are encoded once
    fast_body = False


class MetaSGD(FirstOrderMAML, name="meta_sgd"):
    """Adapt as MAML does, by steps whose size and sign are learned for every weight. State: the same."""

    second_order = True

    def _make_step_sizes(self) -> None:
        own = dict(self.encoder.backbone.named_parameters())
        shapes = [own[name].shape for name in self.fast]
        ones = [torch.ones(self.encoder.dimension), *map(torch.ones, shapes)]
        learned = self.config.learn_step_sizes
        # Learned as factors of their first value, which suit one learning rate.
        self.step_factors = nn.ParameterList([nn.Parameter(one, requires_grad=learned) for one in ones])

    def _step_size(self, step: int, name: str) -> Tensor:
        first = self.config.head_lr if name == HEAD else self.config.inner_lr
        return first * self.step_factors[self._column[name]]


def _leaves(state: TaskState) -> TaskState:
    """Return the same values as leaves of a new graph, for adapting where nothing else needs gradients."""
    return {name: value.detach().requires_grad_() for name, value in state.items()}
