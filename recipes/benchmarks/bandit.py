"""Classification as a bandit on unseen classes: `rl2` beside linear bandits on the same frozen embeddings.

    python recipes/benchmarks/bandit.py --data-root data

A stream is 60 texts, 12 of each of 5 classes, in random order. Nothing is known of the classes, not even their names:
each text is answered, and only whether that was right is told. `rl2` is meta-trained once on the training classes of
all sets, and samples its answers. The linear bandits, a ridge regression per class, are LinUCB (Li et al. 2010,
https://arxiv.org/abs/1003.0146) and Thompson sampling (Agrawal and Goyal 2013, https://arxiv.org/abs/1209.3352). As
neither knows that only one answer is right, each comes in a form, too, that does (`one right`): a text answered right
then counts as a wrong one for all other classes. Ridge and width are those that earn most on the validation classes
of each set, by which the settings of `rl2` were chosen, too; test classes are met once. Differences are paired by
stream.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch.nn import functional as F

from fewtext import (
    Collator,
    Encoder,
    EpisodeSampler,
    EpisodeSpec,
    LabeledTexts,
    Row,
    TrainConfig,
    meta_train,
    write_results,
)
from fewtext.jobs.options import Data
from fewtext.learners.recurrent import RL2
from fewtext.metrics.scores import mean_ci
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pretrained import MINILM
from fewtext.tensors import Support, Tokens

RESULTS = Path(__file__).parent / "results" / "bandit.json"
WAYS, TEXTS = 5, 12  # classes of a stream, and texts per class
BLOCK = 4  # texts to a point of the curves
RIDGES, WIDTHS = (0.01, 0.03, 0.1, 0.3, 1.0), (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
OWN, UNTRAINED = "rl2", "rl2, untrained"
BANDITS = {  # whether widths are sampled, and whether one answer only is known to be right
    "LinUCB": (False, False),
    "LinUCB, one right": (False, True),
    "Thompson sampling": (True, False),
    "Thompson sampling, one right": (True, True),
}
COLOURS = ("tab:blue", "lightskyblue", "tab:red", "tab:orange", "dimgrey", "darkgrey")


@dataclass(frozen=True)
class Streams:
    """T streams of S texts: what is known before, step by step the tokens of `[T, 1]` rows, and labels `[T, S]`."""

    support: Support
    tokens: list[Tokens]
    labels: np.ndarray

    @classmethod
    def draw(cls, source: LabeledTexts, count: int, encoder: Encoder) -> Streams:
        """Draw streams, always the same ones."""
        sampler = EpisodeSampler(source, EpisodeSpec(WAYS, 0, TEXTS), seed=1)
        episodes = [sampler[number] for number in range(count)]
        orders = [np.random.default_rng(number).permutation(WAYS * TEXTS) for number in range(count)]
        rows = np.array([episode.query[order] for episode, order in zip(episodes, orders, strict=True)])
        labels = np.array([episode.query_labels[order] for episode, order in zip(episodes, orders, strict=True)])
        collator = Collator([source], encoder.tokenize)
        tokens = [collator.tokens([[source.texts[row]] for row in step]) for step in rows.T]
        return cls(collator(episodes, names=False).support, tokens, labels)

    def vectors(self, encoder: Encoder) -> np.ndarray:
        """Return the unit embeddings `[T, S, S]` in a basis of each stream's own, which keeps all inner products."""
        rows = F.normalize(torch.cat([encoder(step) for step in self.tokens], dim=1), dim=-1)
        return torch.linalg.qr(rows.double().mT).R.mT.numpy()


def answered(learner: RL2, streams: Streams) -> np.ndarray:
    """Return the rewards `[T, S]` of a learner that samples its answers."""
    state, generator, rewards = learner.adapt(streams.support), torch.Generator().manual_seed(0), []
    for text, label in zip(streams.tokens, torch.from_numpy(streams.labels.T), strict=True):
        chances = learner.predict(state, text)[:, 0].softmax(dim=-1)
        action = torch.multinomial(chances, 1, generator=generator)[:, 0]
        rewards.append((action == label).float())
        state = learner.observe(state, text, action, rewards[-1])
    return torch.stack(rewards, dim=1).numpy()


def linear(
    vectors: np.ndarray, labels: np.ndarray, ridge: float, width: float, *, sampled: bool, one_right: bool
) -> np.ndarray:
    """Return the rewards `[T, S]` of one ridge regression per class: the answer has the largest mean plus bonus.

    Args:
        vectors: `[T, S, D]`.
        labels: `[T, S]`.
        ridge: penalty.
        width: of the bonus, in standard deviations of the estimate.
        sampled: draw the bonus from a normal distribution (Thompson sampling) instead of giving all of it (LinUCB).
        one_right: what is right for one class counts as wrong for the others.
    """
    (tasks, steps, size), generator = vectors.shape, np.random.default_rng(0)
    inverse = np.tile(np.eye(size) / ridge, (tasks, WAYS, 1, 1))
    sums, rewards, each = np.zeros((tasks, WAYS, size)), np.zeros((tasks, steps)), np.arange(tasks)
    for step in range(steps):
        text = vectors[:, step]
        gain = (inverse @ text[:, None, :, None])[..., 0]
        variance = (gain @ text[:, :, None])[..., 0]
        bonus = generator.standard_normal(variance.shape) if sampled else 1.0
        ties = 1e-9 * generator.random(variance.shape)
        action = ((gain * sums).sum(-1) + width * np.sqrt(variance) * bonus + ties).argmax(1)
        reward = rewards[:, step] = action == labels[:, step]
        told = (np.arange(WAYS) == action[:, None]) | (one_right & reward)[:, None]
        inverse -= (told / (1 + variance))[..., None, None] * gain[..., :, None] * gain[..., None, :]
        sums[each, action] += reward[:, None] * text
    return rewards


def best(vectors: np.ndarray, labels: np.ndarray, **kind: bool) -> tuple[float, float]:
    """Return the ridge and width that earn most."""
    return max(product(RIDGES, WIDTHS), key=lambda pair: linear(vectors, labels, *pair, **kind).mean())


def measured(
    learners: Mapping[str, RL2], validation: LabeledTexts, test: LabeledTexts, streams: int
) -> dict[str, np.ndarray]:
    """Return the rewards `[T, S]` on streams of the test classes, by method."""
    encoder = learners[OWN].encoder
    with torch.no_grad(), fast_matmul():
        known, unseen = (Streams.draw(source, streams, encoder) for source in (validation, test))
        with encoder.remembering():
            before = known.vectors(encoder)
        with encoder.remembering():
            found = {name: answered(learner, unseen) for name, learner in learners.items()}
            vectors = unseen.vectors(encoder)
    for name, (sampled, one_right) in BANDITS.items():
        ridge, width = best(before, known.labels, sampled=sampled, one_right=one_right)
        print(f"{test.name}, {name}: ridge {ridge}, width {width}", file=sys.stderr, flush=True)
        found[name] = linear(vectors, unseen.labels, ridge, width, sampled=sampled, one_right=one_right)
    return found


def rows(place: str, found: Mapping[str, np.ndarray]) -> list[Row]:
    """Return mean rewards, paired differences, and how the reward of `rl2` rises."""
    own, third = found[OWN], WAYS * TEXTS // 3
    values = {
        f"{place}/reward" if name == OWN else f"{place}/reward of {name}": found[name].mean(1) for name in found
    }
    points = {f"{place}/reward − {name}": (own - found[name]).mean(1) for name in found if name != OWN}
    points[f"{place}/reward, last third − first third"] = own[:, -third:].mean(1) - own[:, :third].mean(1)
    blocks = {
        f"{place}/reward, texts {start + 1}–{start + TEXTS}": own[:, start : start + TEXTS].mean(1)
        for start in range(0, WAYS * TEXTS, TEXTS)
    }
    return [
        *(_row(name, each, "share") for name, each in values.items()),
        *(_row(name, 100 * each, "points") for name, each in points.items()),
        *(_row(name, each, "share") for name, each in blocks.items()),
    ]


def draw(curves: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Draw the reward over the texts read, in blocks, one panel per set."""
    figure = Figure(figsize=(4.2 * len(curves), 3.6), layout="constrained")
    for axis, (place, found) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for (name, rewards), colour in zip(found.items(), COLOURS, strict=True):
            blocks = 100 * rewards.reshape(len(rewards), -1, BLOCK).mean(axis=(0, 2))
            texts = BLOCK * (np.arange(len(blocks)) + 0.5)
            axis.plot(texts, blocks, color=colour, linewidth=2.5 if name == OWN else 1.2, label=name)
        axis.axhline(100 / WAYS, color="black", linewidth=0.5, linestyle=":")
        axis.set_title(place, fontsize=10)
        axis.set(xlabel="texts answered", ylabel="right answers, %", ylim=(0, 100))
        axis.grid(alpha=0.3)
    figure.axes[-1].legend(fontsize=7, loc="upper left", ncols=2)
    figure.savefig(path, dpi=120)


def main(
    *,
    cards: tuple[str, ...] = ("banking77", "hwu64", "everyday"),
    split: int = 1,
    data_root: Path | None = None,
    base: str = MINILM,
    steps: int = 300,
    streams: int = 200,
    seed: int = 0,
    out: Path = RESULTS,
) -> None:
    """Meta-train `rl2` on a frozen encoder, and let all methods answer the same streams of unseen classes.

    Args:
        cards: data cards; their training classes are mixed.
        split: number of the class split.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        steps: meta-steps of 8 streams.
        streams: how many, of each set.
        seed: of the learner's first weights and of the training streams.
        out: file of the results; a picture goes beside it.
    """
    parts = Data(cards, split, data_root).parts()
    encoder = Encoder.from_pretrained(base).requires_grad_(False)
    torch.manual_seed(seed)
    learner = RL2(encoder)
    learners = {OWN: learner, UNTRAINED: RL2(encoder)}
    unseen = [*parts["validation"], *parts["test"]]
    episodes = EpisodeSampler(parts["train"], EpisodeSpec(WAYS, 1, TEXTS), seed=seed, exclude=unseen)
    with encoder.remembering():
        meta_train(learner, episodes, TrainConfig(steps, meta_batch=8, micro_batch=8, validate_every=0))
    curves = {
        card: measured(learners, validation, test, streams)
        for card, validation, test in zip(cards, parts["validation"], parts["test"], strict=True)
    }
    write_results(out, [row for card, found in curves.items() for row in rows(f"rl2/{card}", found)])
    draw(curves, out.with_suffix(".png"))
    print(out.with_suffix(".md").read_text("utf-8"))


def _row(name: str, values: np.ndarray, unit: str) -> Row:
    mean, half = mean_ci(values)
    return Row(name, mean, unit, half, len(values))


if __name__ == "__main__":
    tyro.cli(main)
