"""Accuracy over the number of texts per class, from none to twenty.

    python recipes/benchmarks/shots.py --data-root data

Without any text a classifier knows its classes by their names alone. Supports are drawn from the official training
part so that the fewer are among the more; all official test texts are asked. Intervals are 95 %, over the draws.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from full_label import split
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from fewtext import Encoder, FewShotClassifier, Row, load_texts, write_results
from fewtext.embedding import remembered
from fewtext.metrics.scores import accuracy, mean_ci
from fewtext.nn.pretrained import MINILM
from fewtext.plots import draw_shots
from fewtext.results import table

RESULTS = Path(__file__).parent / "results" / "shots.json"


def main(
    *,
    sets: tuple[str, ...] = ("banking77", "clinc150", "hwu64"),
    data_root: Path | None = None,
    base: str = MINILM,
    shots: tuple[int, ...] = (0, 1, 2, 3, 5, 10, 20),
    seeds: int = 5,
    out: Path = RESULTS,
) -> None:
    """Measure FewShotClassifier as it is by default, beside logistic regression on the same embeddings.

    Args:
        sets: data cards.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        shots: texts per class.
        seeds: draws of the texts.
        out: file of the results; a picture goes beside it.
    """
    encoder, found = Encoder.from_pretrained(base), {}
    for name in sets:
        train, test = split(load_texts(name, data_root=data_root))
        truth = np.array(test.classes)[test.labels]
        queries = remembered(encoder, test.texts).numpy()  # so that each classifier finds them encoded
        for seed in tqdm(range(seeds), desc=name, unit="draw"):
            order = train.at_most(max(shots), seed=seed)
            for count in shots:
                places = [np.flatnonzero(order.labels == label)[:count] for label in range(len(order.classes))]
                rows = np.concatenate(places)
                texts, labels = [order.texts[row] for row in rows], np.array(order.classes)[order.labels[rows]]
                classifier = FewShotClassifier(encoder, classes=order.classes).fit(texts, labels)
                key = f"{name}/{count}-shot"
                found.setdefault(f"{key}/fewtext-plain", []).append(accuracy(classifier.predict(test.texts), truth))
                if count:
                    model = LogisticRegression(C=100, max_iter=2000).fit(remembered(encoder, texts).numpy(), labels)
                    hits = accuracy(model.predict(queries), truth)
                    found.setdefault(f"{key}/frozen-logistic-regression", []).append(hits)
    results = []
    for name, values in found.items():
        mean, half = mean_ci(values)
        results.append(Row(name, mean, "accuracy", ci95=half, n=len(values)))
    write_results(out, results)
    draw_shots(results, out.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    tyro.cli(main)
