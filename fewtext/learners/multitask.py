"""Joint supervised training on all classes of all sources: the control that meta-learning must be compared with.

Plain training is often as good as learning to learn: for images, https://arxiv.org/abs/2003.11539 (Tian et al. 2020);
for texts, https://arxiv.org/abs/2205.01500 (Lee et al. 2022). Episodes only deliver the texts: supports and queries
count alike, and each is told apart from all classes of its source, not from those of its episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.errors import LearnerError
from fewtext.learners.base import MetaOutput, query_loss
from fewtext.learners.prototypical import Prototypical, PrototypicalConfig
from fewtext.nn.encoder import Encoder
from fewtext.nn.heads import cosine
from fewtext.tensors import ABSENT, EpisodeBatch


@dataclass(frozen=True)
class MultitaskConfig(PrototypicalConfig):
    """Settings of joint training; a new task is solved as by the prototypical learner, see `PrototypicalConfig`.

    Attributes:
        source_weights: λ of each source, in the order of the sources; 1 for all by default.
    """

    source_weights: tuple[float, ...] = ()


class Multitask(Prototypical, name="multitask"):
    """Train on all source classes at once; classify by the nearest class mean. State: see `Prototypical`."""

    Config = MultitaskConfig

    def __init__(self, encoder: Encoder, config: MultitaskConfig | None = None) -> None:
        super().__init__(encoder, config)
        self.sources: Sequence[int] = ()

    def begin(self, sources: Sequence[int]) -> None:
        """Make the heads: a vector for each class of each source, of use in training only.

        Raises:
            LearnerError: not one λ per source.
        """
        if len(self.config.source_weights) not in (0, len(sources)):
            raise LearnerError(
                f"source_weights: {len(self.config.source_weights)} for {len(sources)} sources. Give one for each."
            )
        drawn = torch.randn(sum(sources), self.encoder.dimension, generator=torch.Generator().manual_seed(0))
        self.sources, self.heads = tuple(sources), nn.Parameter(F.normalize(drawn, dim=-1).to(self.encoder.device))

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return Σ λᵢ·Lᵢ, Lᵢ the cross-entropy of texts of source i over its classes; each episode counts the same.

        Raises:
            LearnerError: `begin` was not called, or the episodes do not say which classes they have.
        """
        support, query, classes = episodes
        if not self.sources or classes is None:
            raise LearnerError("multitask: call begin(sources) first, and use episodes of a Collator with sources.")
        texts = F.normalize(self.encoder(support.tokens.beside(query.tokens)), dim=-1)
        labels = torch.cat([support.labels, query.labels], dim=1)
        given = classes.gather(1, labels.clamp(min=0)).where(labels >= 0, ABSENT)
        ends = torch.tensor(self.sources, device=classes.device).cumsum(0)
        source = torch.searchsorted(ends, classes[:, 0].contiguous(), right=True)
        owner = torch.repeat_interleave(torch.tensor(self.sources, device=classes.device))
        logits = self.log_scale.exp() * cosine(texts, self.heads.expand(len(texts), -1, -1))
        logits = logits.masked_fill(owner != source[:, None, None], float("-inf"))
        weights = texts.new_tensor(self.config.source_weights or (1.0,) * len(self.sources))[source]
        losses = [
            weight * query_loss(own[None], truth[None])
            for weight, own, truth in zip(weights, logits, given, strict=True)
        ]
        with torch.no_grad():
            examples, queries = texts.split([support.labels.shape[1], query.labels.shape[1]], dim=1)
            names = F.normalize(self.encoder(support.names), dim=-1)
            solved = self._logits(self._state(support, examples, names), queries)
        return MetaOutput(torch.stack(losses).mean(), solved)

    def own_parameters(self) -> dict[str, Tensor]:
        """Return the parameters outside the encoder that a new task needs."""
        return {name: value for name, value in super().own_parameters().items() if name != "heads"}
