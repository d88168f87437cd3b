"""Reptile: the meta-gradient is how far the start is from what adaptation made of it.

Nichol et al. 2018, https://arxiv.org/abs/1803.02999.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fewtext.learners.base import MetaOutput
from fewtext.learners.gradient import HEAD, FirstOrderMAML, GradientConfig
from fewtext.tensors import EpisodeBatch


@dataclass(frozen=True)
class ReptileConfig(GradientConfig):
    """Settings of Reptile: more steps, whose sizes get no gradient and are not learned; see `GradientConfig`."""

    inner_steps: int = 5
    learn_step_sizes: bool = False


class Reptile(FirstOrderMAML, name="reptile"):
    """Adapt as first-order MAML does; learn to start near where the steps end. State: the same."""

    Config = ReptileConfig

    def forward(self, episodes: EpisodeBatch) -> MetaOutput:
        """Return ½‖θ − φ‖², whose gradient by the start θ is θ − φ, averaged over tasks.

        φ is what adaptation to all texts of the episode, queries included, makes of θ: Reptile does not set any
        aside. The head has a θ where its start is learned: the same for all classes, so their φ are averaged.
        """
        given, asked = episodes.support, episodes.query
        everything = given._replace(
            tokens=given.tokens.beside(asked.tokens), labels=torch.cat([given.labels, asked.labels], dim=1)
        )
        with torch.no_grad():
            adapted = self.states(everything, prior=given)[-1]
            logits = self.predict(adapted, asked.tokens)
        own, present = dict(self.encoder.backbone.named_parameters()), given.class_mask[..., None]
        ends = {name: (own[name], adapted[name]) for name in self.fast}
        if self.config.head_start == "learned":
            ends[HEAD] = self.start, (adapted[HEAD] * present).sum(1) / present.sum(1)
        losses = [(theta - phi).square().sum() / len(phi) for theta, phi in ends.values()]
        return MetaOutput(torch.stack(losses).sum() / 2, logits)
