"""RL²: classification as a bandit, answered by a recurrent network (Duan et al. 2016, https://arxiv.org/abs/1611.02779).

A text is read, one of N classes is answered, and only right or wrong is told. What is learned within a task is in the
hidden state and takes no gradient step; how to learn is in the weights, trained by policy gradient over whole streams
of texts.

A class's part of the hidden state is a sum of texts that speak for it, one of texts that speak against it, and how
often it was the right and the wrong answer. A small cell, the same for all classes, decides by similarities, counts
and outcome how much of a text goes into either sum; so there may be any number of classes, in any order. Supports
count as texts answered right, and a name as further ones: untrained, what it makes of them are cosine prototypes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.errors import LearnerError
from fewtext.learners.base import MetaLearner, MetaOutput
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import class_means, mask_classes
from fewtext.tensors import ABSENT, EpisodeBatch, Support, TaskState, Tokens

PLUS, MINUS, RIGHT, WRONG, MASK = "plus", "minus", "right", "wrong", "class_mask"
SIGNS = 4  # what the policy sees of a text and a class: similarity to either sum, and either count
SOFT = 0.1  # length a sum must have to count in full: the direction of a sum of nothing has no gradient


@dataclass(frozen=True)
class RL2Config:
    """Settings of the recurrent learner.

    Attributes:
        scale: first value of the learned factor of the similarities.
        name_weight: how many examples a class name counts for.
        hidden: width of the networks of cell and policy.
        anonymous: share of the training streams in which supports and names are withheld.
        runs: times each training stream is answered, at least 2; the others are the baseline of each.
        discount: what a reward counts one answer earlier.
        entropy: weight in the loss of the policy's entropy, so that it goes on exploring.
    """

    scale: float = 20.0
    name_weight: float = 1.0
    hidden: int = 32
    anonymous: float = 0.5
    runs: int = 8
    discount: float = 0.9
    entropy: float = 0.03


class Run(NamedTuple):
    """B streams answered: logits `[B, Q, N]`; actions, and whether they were right, `[B, Q]`."""

    logits: Tensor
    actions: Tensor
    rewards: Tensor


class RL2(MetaLearner, name="rl2"):
    """Answer, be told right or wrong, and improve.

    State: `plus` and `minus` `[T, N, D]`, sums of texts for and against a class; `right` and `wrong` `[T, N]`, how
    often it was that answer; `class_mask` `[T, N]`.
    """

    Config = RL2Config

    def __init__(self, encoder: Encoder, config: RL2Config | None = None) -> None:
        super().__init__(encoder, config)
        if self.config.runs < 2:
            raise LearnerError(f"rl2: runs={self.config.runs}, but a run is judged by the others. Give 2 or more.")
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.config.scale)))
        self.policy = _network(SIGNS, self.config.hidden, 1)
        self.cell = _network(SIGNS + 3, self.config.hidden, 2)

    def adapt(self, support: Support) -> TaskState:
        """Return the hidden state after the supports and names, as if each had been answered right at first sight."""
        return self._start(support, torch.ones_like(support.class_mask[:, 0]))

    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the policy's logits; the state stays as it is until `observe`."""
        return self._read(state, self._embed(query))[1]

    def observe(self, state: TaskState, text: Tokens, action: Tensor, reward: Tensor) -> TaskState:
        """Return the hidden state after one more text of each task.

        Args:
            state: what was known when the text was answered.
            text: `[T, 1]` rows.
            action: `[T]`, the class that was answered; `ABSENT` where nothing was.
            reward: `[T]`, 1 where that was right and 0 where it was wrong.
        """
        texts = self._embed(text)
        return self._write(state, texts, self._read(state, texts), action[:, None], reward[:, None])

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the policy gradient's loss over the queries as streams, in an order and with luck of their own.

        Gumbel noise turns the largest logit into a sampled answer. The logits returned have that of the first run,
        so that their accuracy is its mean reward.
        """
        runs, (tokens, labels) = self.config.runs, episodes.query
        tasks, length = labels.shape
        draws = [self._draw(own, episodes) for own in tokens.ids.split(tokens.lengths.sum(1).tolist())]
        known, order, noise = (torch.stack(part).to(labels.device) for part in zip(*draws, strict=True))
        state = self._start(episodes.support, known)
        stream = self._embed(tokens).take_along_dim(order[..., None], 1)
        run = self._answer(
            {name: value.repeat_interleave(runs, 0) for name, value in state.items()},
            stream.repeat_interleave(runs, 0),
            labels.take_along_dim(order, 1).repeat_interleave(runs, 0),
            noise.flatten(0, 1),
        )
        first = (run.logits + noise.flatten(0, 1)).view(tasks, runs, length, -1)[:, 0]
        return MetaOutput(self._loss(run), first.take_along_dim(order.argsort(1)[..., None], 1).detach())

    def _answer(self, state: TaskState, stream: Tensor, labels: Tensor, noise: Tensor) -> Run:
        """Answer streams `[B, Q, D]` text by text, being told right or wrong after each."""
        steps = []
        for text, label, luck in zip(stream.split(1, 1), labels.split(1, 1), noise.split(1, 1), strict=True):
            seen = self._read(state, text)
            answer = (seen[1] + luck).argmax(-1)
            reward, action = (answer == label).to(text), answer.where(label != ABSENT, ABSENT)
            state = self._write(state, text, seen, action, reward)
            steps.append((seen[1], action, reward))
        return Run(*(torch.cat(part, 1) for part in zip(*steps, strict=True)))

    def _loss(self, run: Run) -> Tensor:
        """Return REINFORCE's loss, with discounted rewards to go, less the entropy."""
        runs, length = self.config.runs, run.rewards.shape[1]
        ages = torch.arange(length, device=run.rewards.device)
        ages = ages[:, None] - ages
        worth = torch.where(ages >= 0, self.config.discount ** ages.clamp(min=0), 0.0).to(run.rewards)
        returns = (run.rewards @ worth).unflatten(0, (-1, runs))
        # The mean of the other runs, which do not depend on this one's answers, is a baseline without bias.
        advantages = (returns - returns.mean(1, keepdim=True)).flatten(0, 1) * runs / (runs - 1)
        surprise = -run.logits.log_softmax(-1)
        chosen = surprise.take_along_dim(run.actions.clamp(min=0)[..., None], -1)[..., 0]
        entropy = (surprise.masked_fill(surprise.isinf(), 0.0) * run.logits.softmax(-1)).sum(-1)
        present = run.actions != ABSENT
        losses = (advantages * chosen - self.config.entropy * entropy) * present
        return (losses.sum(1) / present.sum(1).clamp(min=1)).mean()

    def _draw(self, ids: Tensor, episodes: EpisodeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return what chance decides in one task: whether anything is known, the order, and noise `[runs, Q, N]`.

        Chance follows from the tokens of the task's queries, so that the same batch always has the same.
        """
        generator = torch.Generator().manual_seed(hash(tuple(ids.tolist())))
        known = torch.rand((), generator=generator) >= self.config.anonymous
        order = torch.randperm(episodes.query.labels.shape[1], generator=generator)
        noise = torch.empty(self.config.runs, len(order), episodes.support.class_mask.shape[1])
        return known, order, -noise.exponential_(generator=generator).log()

    def _start(self, support: Support, known: Tensor) -> TaskState:
        """Return the hidden state before the first answer; where `known` `[T]` is False, of anonymous classes."""
        mask = support.class_mask
        means, counts = class_means(self._embed(support.tokens), support.labels, mask.shape[1])
        named = (support.names.lengths > 0) * self.config.name_weight
        own = (means * counts[..., None] + self._embed(support.names) * named[..., None]) * known[:, None, None]
        nothing, none = torch.zeros_like(own), torch.zeros_like(counts)
        state = {PLUS: nothing, MINUS: nothing, RIGHT: none, WRONG: none, MASK: mask}
        each = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        # Seen from the same state, the sum of texts is written as its texts are.
        state = self._write(state, own, self._read(state, own), each, torch.ones_like(counts))
        return state | {RIGHT: (counts + named) * known[:, None]}

    def _read(self, state: TaskState, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return signs `[T, Q, N, SIGNS]` and logits `[T, Q, N]` of texts `[T, Q, D]`."""
        near, far = (_similarity(texts, state[name]) for name in (PLUS, MINUS))
        counts = [state[name].log1p()[:, None].expand_as(near) for name in (RIGHT, WRONG)]
        signs = torch.stack([near, far, *counts], dim=-1)
        logits = self.log_scale.exp() * near + self.policy(signs)[..., 0]
        return signs, mask_classes(logits, state[MASK])

    def _write(
        self, state: TaskState, texts: Tensor, seen: tuple[Tensor, Tensor], action: Tensor, reward: Tensor
    ) -> TaskState:
        """Add texts `[T, Q, D]`, all seen from this state and answered by `action` `[T, Q]`, to the sums."""
        signs, logits = seen
        taken = (action[..., None] == torch.arange(logits.shape[-1], device=action.device)).to(texts)
        told = reward[..., None].expand_as(taken)
        right, wrong = taken * told, taken * (1 - told)
        gates = self.cell(torch.cat([signs, torch.stack([taken, told, logits.softmax(-1)], dim=-1)], dim=-1))
        gates = (gates + torch.stack([right, wrong], dim=-1)) * (action != ABSENT)[..., None, None]
        return state | {
            PLUS: state[PLUS] + gates[..., 0].mT @ texts,
            MINUS: state[MINUS] + gates[..., 1].mT @ texts,
            RIGHT: state[RIGHT] + right.sum(1),
            WRONG: state[WRONG] + wrong.sum(1),
        }

    def _embed(self, tokens: Tokens) -> Tensor:
        return F.normalize(self.encoder(tokens), dim=-1)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return a network that starts by answering 0."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)


def _similarity(texts: Tensor, sums: Tensor) -> Tensor:
    """Return the cosines `[T, Q, N]` of unit texts and sums `[T, N, D]`, smaller where a sum is short."""
    return texts @ sums.mT / (sums.square().sum(-1) + SOFT**2).sqrt()[:, None]
