"""Prototypes that doubt their labels, beside plain ones, where one label of five is wrong and where none is.

    python recipes/benchmarks/wrong_labels.py --data-root data

The encoder is frozen; both have the same episodes, 5-way 5-shot, in which one text of each class is said to be of
another. How many wrong labels to expect is chosen on the validation classes; the test classes are asked once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Prototypical, Row, write_results
from fewtext.data.sampler import Episode
from fewtext.jobs.options import Data
from fewtext.learners.prototypical import PrototypicalConfig
from fewtext.metrics.scores import mean_ci
from fewtext.nn.pretrained import MINILM
from fewtext.results import table
from fewtext.scoring import score_learner

RESULTS = Path(__file__).parent / "results" / "wrong_labels.json"
WAYS, SHOTS, QUERIES = 5, 5, 5
EXPECTED = {"validation": (0.01, 0.02, 0.05, 0.1), "test": (0.02,)}  # shares of wrong labels


def main(
    *,
    sets: tuple[str, ...] = ("hwu64", "banking77", "everyday"),
    episodes: int = 200,
    data_root: Path | None = None,
    base: str = MINILM,
    out: Path = RESULTS,
) -> None:
    """Measure and write the results.

    Args:
        sets: data cards; split 1 of their classes.
        episodes: of each part.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        out: file of the results.
    """
    torch.set_num_threads(1)
    encoder, rows = Encoder.from_pretrained(base), list[Row]()
    for card in sets:
        parts = Data(card=(card,), data_root=data_root).parts()
        for part, expected in EXPECTED.items():
            sampler = EpisodeSampler(parts[part], EpisodeSpec(WAYS, SHOTS, QUERIES), seed=1)
            clean = [sampler[number] for number in range(episodes)]
            collator, learners = Collator(parts[part], encoder.tokenize), dict[float, Prototypical]()
            for noise in (0.0, *expected):
                learners[noise] = Prototypical(encoder, PrototypicalConfig(label_noise=noise)).eval()
            with encoder.remembering():
                for words, drawn in {"one of five wrong": [*map(mislabelled, clean)], "none wrong": clean}.items():
                    bar = tqdm(learners.items(), desc=f"{card}, {part}, {words}")
                    found = {noise: score_learner(own, drawn, collator).accuracy for noise, own in bar}
                    rows += rows_of(f"{card}/{part}/{words}", found)
    write_results(out, rows)
    print(table(rows))


def mislabelled(episode: Episode) -> Episode:
    """Return the episode with one text of each class said to be of the next one."""
    support = episode.support.reshape(WAYS, SHOTS).copy()
    support[:, 0] = np.roll(support[:, 0], 1)
    return replace(episode, support=support.reshape(-1))


def rows_of(place: str, found: dict[float, np.ndarray]) -> list[Row]:
    """Return the accuracy of plain prototypes, and what expecting wrong labels adds to it, paired.

    Args:
        place: what the rows are called.
        found: accuracies of the episodes by the share of wrong labels that is expected; plain ones at 0.
    """
    plain = found[0.0]
    mean, half = mean_ci(plain)
    rows = [Row(f"{place}/plain", mean, "accuracy", half, len(plain))]
    for noise, own in found.items():
        if noise:
            gain, half = mean_ci(100 * (own - plain))
            rows.append(Row(f"{place}/label_noise={noise} − plain", gain, "points", half, len(plain)))
    return rows


if __name__ == "__main__":
    tyro.cli(main)
