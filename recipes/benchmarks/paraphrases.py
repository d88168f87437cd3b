"""Does it help to say the same text in other ways? Each text of a few, alone and with its paraphrases.

    python recipes/benchmarks/paraphrases.py

The texts are of the validation classes of `everyday`. `paraphrases.csv` has two paraphrases of 185 of them, written
by a language model that saw these texts and nothing else, neither their labels nor the texts that are asked for here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

from fewtext import FewShotClassifier, LabeledTexts, Row, load_texts, write_results
from fewtext.jobs.options import Data
from fewtext.metrics.scores import mean_ci
from fewtext.nn.pretrained import MINILM
from fewtext.results import table

HERE = Path(__file__).parent
COLUMNS = ("paraphrase", "second_paraphrase")
WAYS = {"plain": {}, "without names": {"names": False}, "refined": {"refine": True}}


def main(
    *,
    shots: tuple[int, ...] = (1, 2, 5),
    draws: int = 10,
    base: str = MINILM,
    out: Path = HERE / "results" / "paraphrases.json",
) -> None:
    """Measure and write the results.

    Args:
        shots: texts of each class.
        draws: how many times they are drawn.
        base: hub id or folder of the encoder.
        out: file of the results.
    """
    torch.set_num_threads(1)
    known = load_texts(str(HERE / "paraphrases.csv"), paraphrase_columns=COLUMNS)
    (everything,) = Data(card=("everyday",)).parts()["validation"]
    asked = everything.rows([row for row, text in enumerate(everything.texts) if text not in known.paraphrases])
    rows = []
    for count in shots:
        for name, options in WAYS.items():
            pairs = [
                pair(known.at_most(count, seed=seed), asked, FewShotClassifier(base, **options))
                for seed in tqdm(range(draws), desc=f"{count}-shot, {name}", disable=None)
            ]
            alone, both = (np.array(values) for values in zip(*pairs, strict=True))
            for word, values, unit in (
                ("texts alone", alone, "accuracy"),
                ("with two paraphrases", both, "accuracy"),
                ("difference", 100 * (both - alone), "points"),
            ):
                mean, half = mean_ci(values)
                rows.append(Row(f"everyday/{count}-shot, {name}/{word}", mean, unit, half, draws))
    write_results(out, rows, "python recipes/benchmarks/paraphrases.py")
    print(table(rows))


def pair(few: LabeledTexts, asked: LabeledTexts, classifier: FewShotClassifier) -> tuple[float, float]:
    """Return the accuracy of the classifier fitted to these texts, alone and with their paraphrases."""
    labels, truth = ([texts.classes[label] for label in texts.labels] for texts in (few, asked))
    said = {text: few.paraphrases[text] for text in few.texts}
    alone = classifier.fit(few.texts, labels).score(asked.texts, truth)
    return alone, classifier.fit(few.texts, labels, paraphrases=said).score(asked.texts, truth)


if __name__ == "__main__":
    tyro.cli(main)
