"""Texts longer than the encoder reads at once: cut, or read in windows (`Encoder.encode(texts, windows=True)`).

    python recipes/benchmarks/long_texts.py --data-root data

Logistic regression (C=100) on unit embeddings of a few official training texts of each class, asked for other texts.
Windows, their overlap and weights were chosen with `--validation`. Intervals are 95 %, of texts and draws together.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import tyro
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from fewtext import Encoder, LabeledTexts, Row, load_texts, write_results
from fewtext.nn.pretrained import MINILM
from fewtext.results import table

RESULTS = Path(__file__).parent / "results" / "long_texts.json"


def main(
    *,
    card: str = "newsgroups20",
    data_root: Path | None = None,
    base: str = MINILM,
    bf16: bool = False,
    shots: tuple[int, ...] = (5, 10),
    draws: int = 5,
    per_class: int = 100,
    validation: bool = False,
    out: Path = RESULTS,
) -> None:
    """Measure both ways on the same texts.

    Args:
        card: data card with official training and test rows.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        bf16: compute in bfloat16.
        shots: texts of each class to learn from.
        draws: how many times they are drawn.
        per_class: texts of each class to ask for.
        validation: ask for training texts that are in no draw, instead of test texts.
        out: file of the results.
    """
    texts, encoder = load_texts(card, data_root=data_root), Encoder.from_pretrained(base, bf16=bf16)
    most, train = max(shots) * draws, texts.part("train")
    known = train.at_most(most)
    if validation:
        seen = set(known.texts)
        asked = train.rows([row for row, text in enumerate(train.texts) if text not in seen]).at_most(per_class)
    else:
        asked = texts.part("test").at_most(per_class)
    order = np.random.default_rng(0).permutation(len(known))
    right, speed = {}, {}
    for windows in (False, True):
        support = _unit(encoder.encode(known.texts, windows=windows))
        start = time.process_time()
        queries = _unit(encoder.encode(asked.texts, windows=windows))
        speed[windows] = len(asked) / (time.process_time() - start)
        for shot in shots:
            right[windows, shot] = np.array(
                [_right(support, known, queries, asked, _draw(known, order, shot, draw)) for draw in range(draws)]
            )
    place, rows = f"{asked.name}/{encoder.max_length} tokens", []
    for shot in shots:
        cut, whole = right[False, shot], right[True, shot]
        for name, found in ((f"{shot}-shot, cut", cut), (f"{shot}-shot, windows", whole)):
            rows.append(Row(f"{place}/{name}", found.mean(), "accuracy", _ci95(found), len(asked)))
        points = 100 * (whole - cut)
        rows.append(Row(f"{place}/{shot}-shot, windows − cut", points.mean(), "points", _ci95(points), len(asked)))
    times = {"peer": "cut", "peer_value": speed[False], "ratio": speed[True] / speed[False]}
    rows.append(Row(f"{place}/encoding in windows", speed[True], "texts/s", n=len(asked), **times))
    write_results(out, rows)
    print(encoder.report(asked.texts), encoder.report(asked.texts, windows=True), table(rows), sep="\n")


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _draw(known: LabeledTexts, order: np.ndarray, shot: int, draw: int) -> np.ndarray:
    own = [order[known.labels[order] == label] for label in range(len(known.classes))]
    return np.concatenate([rows[draw * shot : (draw + 1) * shot] for rows in own])


def _right(
    support: np.ndarray, known: LabeledTexts, queries: np.ndarray, asked: LabeledTexts, rows: np.ndarray
) -> np.ndarray:
    model = LogisticRegression(C=100, max_iter=2000).fit(support[rows], known.labels[rows])
    return (model.predict(queries) == asked.labels).astype(float)


def _ci95(found: np.ndarray) -> float:
    """Return the half width of the interval of a mean over draws and texts, `[draws, n]`, both of them random.

    Student's t, with the degrees of freedom of a sum of two variances (Satterthwaite 1946,
    https://doi.org/10.2307/3002019).
    """
    freedom = np.array(found.shape) - 1
    variances = np.array([found.mean(axis=1).var(ddof=1), found.mean(axis=0).var(ddof=1)]) / found.shape
    total = variances.sum()
    return student.ppf(0.975, total**2 / (variances**2 / freedom).sum()) * total**0.5


if __name__ == "__main__":
    tyro.cli(main)
