"""What every meta-learner is: `adapt` to a support set, `predict` for queries.

Knowledge of a task is a value (`TaskState`) that is returned, never a change of the learner. Every algorithm is a
scalar loss of a batch of episodes, so one outer loop trains them all.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.errors import LearnerError
from fewtext.nn.encoder import Encoder
from fewtext.tensors import ABSENT, EpisodeBatch, Support, TaskState, Tokens

LEARNERS: dict[str, type[MetaLearner]] = {}
"""Every learner by name; a class registers itself with `class Mine(MetaLearner, name="mine")`."""


@dataclass
class MetaOutput:
    """What one batch of episodes gives: the loss to descend and the queries' logits `[T, Q, N]`."""

    loss: Tensor
    logits: Tensor


class MetaLearner(nn.Module, ABC):
    """Base of all meta-learners.

    A subclass is one file: a frozen dataclass `Config` with runnable defaults, `adapt` and `predict`.

    Args:
        encoder: turns texts into vectors; its weights (or adapters) are trained along.
        config: the learner's own settings.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    own_lr: ClassVar[float] = 1e-2
    """Peak learning rate of the parameters outside the encoder: this one suits a few factors, networks need less."""
    transductive: ClassVar[bool] = False
    """Whether `refine` can learn from the texts that are asked."""

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is not None:
            if name in LEARNERS:
                raise LearnerError(f"learner name {name!r} is taken by {LEARNERS[name].__qualname__}.")
            cls.name = name
            LEARNERS[name] = cls

    def __init__(self, encoder: Encoder, config: Any = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.facts: Mapping[str, Any] = {}  # how it came about; travels with what is saved
        self.config = self.Config() if config is None else config

    def begin(self, sources: Sequence[int]) -> None:
        """Get ready to be meta-trained on sources of so many classes each; most learners need not know."""

    def end(self, tasks: Iterator[Support]) -> None:
        """Get ready to be used, after meta-training; `tasks` are supports that it has seen, without an end."""

    @abstractmethod
    def adapt(self, support: Support) -> TaskState:
        """Learn T tasks from their supports; the state's tensors have a leading T."""

    @abstractmethod
    def predict(self, state: TaskState, query: Tokens) -> Tensor:
        """Return the logits `[T, Q, N]` of the queries under the adapted state."""

    def refine(self, state: TaskState, query: Tokens) -> TaskState:
        """Return the state after learning from the texts that are asked, all together, as well (transduction).

        Raises:
            LearnerError: the learner has no way to do so.
        """
        raise LearnerError(f"{self.name} cannot learn from the texts that are asked.")

    def linear(self, state: TaskState) -> tuple[TaskState, Tensor, Tensor] | None:
        """Return one task's head as a linear one on embeddings of length 1, for readers that know no other.

        It is the task's own weights of the backbone by name (none, for most learners), `weight` `[N, D]` and `bias`
        `[N]`; the logits may differ from those of `predict` by a number that is the same for all classes. None where
        the head is not linear. A classifier's linear head comes as it is.
        """
        return ({}, state["weight"], state["bias"]) if "weight" in state else None

    @classmethod
    def is_linear(cls) -> bool:
        """Return whether its own heads are linear."""
        return cls.linear is not MetaLearner.linear

    def __sklearn_clone__(self) -> MetaLearner:
        return self  # the clones of a classifier share its base

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return the loss of a batch of episodes: by default the queries' cross-entropy."""
        logits = self.predict(self.adapt(episodes.support), episodes.query.tokens)
        return MetaOutput(query_loss(logits, episodes.query.labels), logits)

    def own_parameters(self) -> dict[str, Tensor]:
        """Return the parameters outside the encoder, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}


def query_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits `[T, Q, N]`, averaged over tasks so that each task counts the same."""
    losses = F.cross_entropy(logits.mT, labels, ignore_index=ABSENT, reduction="none")
    return (losses.sum(1) / (labels != ABSENT).sum(1).clamp(min=1)).mean()


def learner_class(name: str) -> type[MetaLearner]:
    """Return the learner registered under `name`.

    Raises:
        LearnerError: an unknown name.
    """
    if name not in LEARNERS:
        close = difflib.get_close_matches(name, LEARNERS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise LearnerError(f"no learner {name!r}.{hint} Learners: {', '.join(sorted(LEARNERS))}.")
    return LEARNERS[name]
