"""Which source helps which target: meta-training on each, tested on unseen classes of all, beside prototype geometry.

    python recipes/benchmarks/transfer.py --data-root data

A prototypical learner is meta-trained on the training classes of one set and compared with the frozen encoder on
classes of every set, on the same episodes. Texts of the target are left out of the training. Beside each gain stands
what `fewtext.similarity` says of the pair, from five texts for each of the target's classes. Runs are kept in
`results/transfer_runs.jsonl`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import tyro

from fewtext import (
    Collator,
    Encoder,
    EpisodeSampler,
    EpisodeSpec,
    LabeledTexts,
    Lora,
    Prototypical,
    TrainConfig,
    meta_train,
)
from fewtext.jobs.options import Data
from fewtext.metrics.scores import mean_ci
from fewtext.nn.pretrained import MINILM
from fewtext.scoring import score_learner
from fewtext.similarity import prototypes, similarity

RUNS = Path(__file__).parent / "results" / "transfer_runs.jsonl"
SETS = ("everyday", "banking77", "clinc150", "hwu64", "liu54", "huffpost")
SHOTS, PER_CLASS = 5, 40  # texts per class of a target: that are compared, and that episodes are drawn from


def main(
    *,
    sets: tuple[str, ...] = SETS,
    steps: int = 60,
    episodes: int = 200,
    parts: tuple[str, ...] = ("validation", "test"),
    data_root: Path | None = None,
    base: str = MINILM,
    runs: Path = RUNS,
) -> None:
    """Run what is missing.

    Args:
        sets: data cards, sources and targets alike; split 1 of their classes.
        steps: of meta-training, four episodes each.
        episodes: 5-way 1-shot, of each target.
        parts: classes of the targets: predictors are chosen on the former and checked on the latter.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        runs: file that keeps the runs.
    """
    torch.set_num_threads(1)
    known = [json.loads(line) for line in runs.read_text("utf-8").splitlines()] if runs.is_file() else []
    done = {run["source"] for run in known}
    data = {card: Data(card=(card,), data_root=data_root).parts() for card in sets}
    frozen = Prototypical(Encoder.from_pretrained(base)).eval()
    targets = {
        (card, part): Target(data[card][part][0].at_most(PER_CLASS), frozen, episodes)
        for card in sets
        for part in parts
    }
    for source in (card for card in sets if card not in done):
        unseen = [texts for card in sets for part in parts for texts in data[card][part]]
        learner = Prototypical(Encoder.from_pretrained(base, lora=Lora(rank=8, alpha=16, from_layer=3)))
        (texts,) = data[source]["train"]
        spec = EpisodeSpec(ways=range(2, min(12, len(texts.classes)) + 1), shots=1, queries=3)
        meta_train(learner, EpisodeSampler(texts, spec, exclude=unseen), TrainConfig(steps=steps))
        own = prototypes(texts, frozen.encoder)
        found = []
        for (card, part), target in targets.items():
            alike = asdict(similarity(target.prototypes, own, source))
            found.append({"source": source, "target": card, "part": part} | target.gain(learner) | alike)
        with runs.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(run) + "\n" for run in found))
        print(
            source,
            *(f"{run['target']}/{run['part']} {run['gain']:+.1f}" for run in found),
            file=sys.stderr,
            flush=True,
        )


class Target:
    """Classes that a learner has not seen: episodes of them, and what the frozen encoder makes of these."""

    def __init__(self, texts: LabeledTexts, frozen: Prototypical, episodes: int) -> None:
        sampler = EpisodeSampler(texts, EpisodeSpec(ways=min(5, len(texts.classes)), shots=1, queries=5), seed=1)
        self.drawn = [sampler[number] for number in range(episodes)]
        self.collator = Collator([texts], frozen.encoder.tokenize)
        self.frozen = self.accuracy(frozen)
        self.prototypes = prototypes(texts.at_most(SHOTS), frozen.encoder)

    def accuracy(self, learner: Prototypical) -> np.ndarray:
        """Return the accuracy in each episode."""
        return score_learner(learner, self.drawn, self.collator).accuracy

    def gain(self, learner: Prototypical) -> dict[str, float]:
        """Return the learner's gain in points, its interval, and the frozen accuracy."""
        gain, half = mean_ci(100 * (self.accuracy(learner) - self.frozen))
        return {"gain": gain, "ci95": half, "frozen": float(self.frozen.mean())}


if __name__ == "__main__":
    tyro.cli(main)
