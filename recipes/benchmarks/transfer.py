"""Which source helps which target: meta-training on each, tested on unseen classes of all, beside prototype geometry.

    python recipes/benchmarks/transfer.py --data-root data
    python recipes/benchmarks/transfer.py --report-only

A prototypical learner is meta-trained on the training classes of one set and compared with the frozen encoder on
classes of every set, on the same episodes. Texts of the target are left out of the training. Beside each gain stands
what `fewtext.similarity` says of the pair, from five texts for each of the target's classes. Runs are kept in
`results/transfer_runs.jsonl`. What `fewtext info --similarity` expects of a source is chosen on the validation
classes, and checked on the test classes, which the table in the README is about.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import tyro
from report import put_table, read
from scipy.stats import rankdata

from fewtext import (
    Collator,
    Encoder,
    EpisodeSampler,
    EpisodeSpec,
    LabeledTexts,
    Lora,
    Prototypical,
    Row,
    TrainConfig,
    meta_train,
    write_results,
)
from fewtext.jobs.options import Data
from fewtext.metrics.scores import mean_ci
from fewtext.nn.pretrained import MINILM
from fewtext.scoring import score_learner
from fewtext.similarity import AT_ZERO, BY_NEARNESS, NEAR, SPREAD, prototypes, similarity

Run: TypeAlias = dict[str, Any]

RUNS = Path(__file__).parent / "results" / "transfer_runs.jsonl"
SETS = ("everyday", "banking77", "clinc150", "hwu64", "liu54", "huffpost")
COLLECTION = {"liu54": "hwu64"}  # a part of the same collection
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
    report_only: bool = False,
) -> None:
    """Run what is missing, then write the report.

    Args:
        sets: data cards, sources and targets alike; split 1 of their classes.
        steps: of meta-training, four episodes each.
        episodes: 5-way 1-shot, of each target.
        parts: classes of the targets: predictors are chosen on the former and checked on the latter.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        runs: file that keeps the runs; the report stands beside it.
        report_only: run nothing.
    """
    if not report_only:
        measure(sets, steps, episodes, parts, data_root, base, runs)
    found = read(runs)
    write_results(runs.with_name("transfer.json"), rows_of(found), "python recipes/benchmarks/transfer.py")
    if runs == RUNS:
        put_table(RUNS.parents[1] / "README.md", text_of(found), "transfer.py")


def measure(
    sets: tuple[str, ...],
    steps: int,
    episodes: int,
    parts: tuple[str, ...],
    data_root: Path | None,
    base: str,
    runs: Path,
) -> None:
    """Meta-train on each source that has no runs yet, and keep what it brings every target."""
    torch.set_num_threads(1)
    done = {run["source"] for run in read(runs)}
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


def predictor(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Return the least squares line of gains over nearness, in points: at 0, per unit, how far 95 % are from it."""
    nearness, gains = (np.array([run[key] for run in runs]) for key in ("nearness", "gain"))
    by_nearness, at_zero = np.polyfit(nearness, gains, 1)
    spread = np.quantile(abs(gains - at_zero - by_nearness * nearness), 0.95)
    return float(at_zero), float(by_nearness), float(spread)


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Return the gain of every pair, and for each part of the classes how well nearness tells which source helps."""
    rows = [
        Row(f"{run['target']}/{run['part']}/after {run['source']}", run["gain"], "points", run["ci95"])
        for run in runs
    ]
    for part in sorted({run["part"] for run in runs}, reverse=True):
        own = [run for run in runs if run["part"] == part]
        held = [abs(run["gain"] - AT_ZERO - BY_NEARNESS * run["nearness"]) <= SPREAD for run in own]
        rows.append(Row(f"all sources/{part}/gain as expected", float(np.mean(held)), "share", n=len(own)))
        rows += choices(f"all sources/{part}", own)
        rows += choices(f"sources of other collections/{part}", [run for run in own if not akin(run)])
    return rows


def akin(run: Run) -> bool:
    """Whether source and target are parts of one collection."""
    return COLLECTION.get(run["source"], run["source"]) == COLLECTION.get(run["target"], run["target"])


def choices(place: str, own: Sequence[Run]) -> list[Row]:
    """Return what the nearest source brings its targets, and how nearness and gain go together."""
    rows, targets = [], [[run for run in own if run["target"] == name] for name in sorted({r["target"] for r in own})]
    for name, gains in {
        "nearest": [max(pairs, key=lambda run: run["nearness"])["gain"] for pairs in targets],
        "best": [max(run["gain"] for run in pairs) for pairs in targets],
        "any": [run["gain"] for run in own],
    }.items():
        rows.append(Row(f"{place}/{name}", float(np.mean(gains)), "points", n=len(gains)))
    ranks = [rankdata([run[key] for run in own]) for key in ("nearness", "gain")]
    order = float(np.corrcoef(ranks)[0, 1])
    rows.append(Row(f"{place}/rank correlation of nearness and gain", order, "ρ", n=len(own)))
    for near, pairs in {
        f"from {NEAR}": [run for run in own if run["nearness"] >= NEAR],
        f"below {NEAR}": [run for run in own if run["nearness"] < NEAR],
    }.items():
        for word, sign in {"better": 1, "worse": -1}.items():
            count = sum(sign * run["gain"] > run["ci95"] for run in pairs)
            rows.append(Row(f"{place}/nearness {near}/certainly {word}", count, "pairs", n=len(pairs)))
    return rows


def text_of(runs: Sequence[Run]) -> str:
    """Return the gains on test classes as a table: a row for each target, a column for each source, nearest bold."""
    own = {(run["target"], run["source"]): run for run in runs if run["part"] == "test"}
    sources = list(dict.fromkeys(source for _, source in own))
    lines = [f"| tested on | {' | '.join(sources)} |", "|---" * (1 + len(sources)) + "|"]
    for target in dict.fromkeys(target for target, _ in own):
        pairs = [own[target, source] for source in sources if (target, source) in own]
        nearest = max(pairs, key=lambda run: run["nearness"])
        cells = [f"{run['gain']:+.1f} ± {run['ci95']:.1f} ({run['nearness']:.2f})" for run in pairs]
        cells = [f"**{cell}**" if run is nearest else cell for run, cell in zip(pairs, cells, strict=True)]
        lines.append(f"| {target} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(main)
