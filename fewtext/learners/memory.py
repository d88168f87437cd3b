"""A memory of adapted tasks: a new task starts where the ones most like it ended, and writes itself back.

This is memory-based parameter adaptation (Sprechmann et al. 2018, https://arxiv.org/abs/1802.10542) with tasks in the
place of examples: a key is the mean embedding of a task's supports, a value how far adaptation moved the encoder's
fast weights. The store is bounded: when it is full, the two entries most alike become one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from fewtext.errors import LearnerError
from fewtext.learners.gradient import HEAD, FirstOrderMAML, GradientConfig
from fewtext.nn.encoder import Encoder
from fewtext.tensors import Support, TaskState


@dataclass(frozen=True)
class MemoryConfig(GradientConfig):
    """Settings of the memory; how a task is learned otherwise, see `GradientConfig`.

    Attributes:
        capacity: entries at most; each is as large as the adapters.
        nearest: entries that a task starts from.
        sharpness: how much more the more similar of them count: a factor of the cosine similarity, under softmax.
    """

    capacity: int = 16
    nearest: int = 4
    sharpness: float = 20.0


class Memory(FirstOrderMAML, name="memory"):
    """Adapt as first-order MAML does, from where similar tasks ended; `write` keeps a task. State: the same."""

    Config = MemoryConfig
    keys: Tensor
    counts: Tensor

    def __init__(self, encoder: Encoder, config: MemoryConfig | None = None) -> None:
        super().__init__(encoder, config)
        if encoder.lora is None:
            raise LearnerError("memory: an entry would be as large as the encoder. Use LoRA (lora_rank above 0).")
        if self.config.capacity < 1 or self.config.nearest < 1:
            raise LearnerError("memory: capacity and nearest must be at least 1.")
        own, capacity = dict(encoder.backbone.named_parameters()), self.config.capacity
        self.register_buffer("keys", torch.zeros(capacity, encoder.dimension))
        self.register_buffer("counts", torch.zeros(capacity))  # tasks in each entry
        for name in self.fast:
            self.register_buffer(_buffer(name), torch.zeros(capacity, *own[name].shape))

    @torch.no_grad()
    def end(self, tasks: Iterator[Support]) -> None:
        """Keep as many training tasks as there is room for, and no others."""
        self.clear()
        for support in islice(tasks, self.config.capacity):
            self.write(support, self.adapt(support))

    @torch.no_grad()
    def write(self, support: Support, state: TaskState) -> None:
        """Keep T adapted tasks, one after another.

        Args:
            support: what they were adapted to.
            state: what `adapt` returned for it.
        """
        own = dict(self.encoder.backbone.named_parameters())
        for task, key in enumerate(self.key(support)):
            places = (self.counts == 0).nonzero()
            place = int(places[0]) if len(places) else self._merge()
            self.keys[place], self.counts[place] = key, 1
            for name in self.fast:
                self.get_buffer(_buffer(name))[place] = state[name][task] - own[name]

    def clear(self) -> None:
        """Forget all tasks."""
        self.counts.zero_()

    @torch.no_grad()
    def key(self, support: Support) -> Tensor:
        """Return the keys of T tasks, `[T, D]` of length 1: the mean of their classes, names included."""
        return F.normalize(F.normalize(self._sums(support, None)[1], dim=-1).sum(1), dim=-1)

    def recall(self, support: Support) -> tuple[Tensor, Tensor]:
        """Return the entries that T tasks start from, most similar first, and their shares, `[T, K]` each."""
        filled = self.counts > 0
        similar = (self.key(support) @ self.keys.T).masked_fill(~filled, float("-inf"))
        cosines, places = similar.topk(min(self.config.nearest, int(filled.sum())), dim=1)
        return places, (self.config.sharpness * cosines).softmax(1)

    def _body(self, support: Support) -> TaskState:
        body = super()._body(support)
        if not self.counts.any():
            return body
        places, shares = self.recall(support)
        moves = {name: self.get_buffer(_buffer(name))[places] for name in self.fast}
        return {name: body[name] + torch.einsum("tk,tk...->t...", shares, moves[name]) for name in self.fast}

    def _start(self, support: Support) -> TaskState:
        body = self._body(support)
        return body | {HEAD: self._head(support, body)}

    def _merge(self) -> int:
        """Make one entry of the two that are most alike, and return the place that is free now."""
        alike = (self.keys @ self.keys.T).fill_diagonal_(-2)
        kept, free = divmod(int(alike.argmax()), len(alike))
        share = self.counts[free] / (self.counts[kept] + self.counts[free])
        for buffer in (self.keys, *(self.get_buffer(_buffer(name)) for name in self.fast)):
            buffer[kept] = torch.lerp(buffer[kept], buffer[free], share)
        self.keys[kept] = F.normalize(self.keys[kept], dim=-1)
        self.counts[kept] += self.counts[free]
        return free


def _buffer(name: str) -> str:
    return "moved " + name.replace(".", "/")  # a buffer's name has no dots
