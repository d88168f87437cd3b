"""The first answer of a new process, and single texts one after the other.

    python recipes/benchmarks/speed.py --rows first_answer single_text_p95

The first is the time from starting Python to the first label, against the time that transformers alone needs to be
imported and to load the same encoder and tokenizer, which is a part of it. It is measured by the clock on the wall,
as its user would; so are single texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Benchmark, Facts, Side, serve


def prepare(folder: Path, material: Any) -> None:
    """Save a classifier, and the texts to ask it."""
    from fewtext import FewShotClassifier

    texts, labels = material.supports
    FewShotClassifier(str(material.base)).fit(texts, labels).save_pretrained(folder / "classifier")
    asked = material.test.at_most(1 if material.quick else 4, seed=0).texts
    inputs = {"base": str(material.base), "texts": texts, "labels": labels, "asked": asked}
    (folder / "inputs.json").write_text(json.dumps(inputs), "utf-8")


def ours_first(folder: Path) -> Side:
    """Import fewtext, load the classifier, answer."""
    from fewtext import FewShotClassifier

    FewShotClassifier.from_pretrained(folder / "classifier").predict(["where is my card?"])
    return Side()


def transformers_first(folder: Path) -> Side:
    """Import transformers, load tokenizer and encoder."""
    from transformers import AutoModel, AutoTokenizer

    base = json.loads((folder / "inputs.json").read_text("utf-8"))["base"]
    AutoTokenizer.from_pretrained(base)
    AutoModel.from_pretrained(base)
    return Side()


def ours_single(folder: Path) -> Side:
    """A loaded classifier."""
    from fewtext import FewShotClassifier

    classifier = FewShotClassifier.from_pretrained(folder / "classifier")
    return _one_by_one(folder, classifier.predict)


def logistic_regression(folder: Path) -> Side:
    """Logistic regression on sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    model = SentenceTransformer(inputs["base"], device="cpu")
    head = LogisticRegression(C=100, max_iter=2000).fit(model.encode(inputs["texts"]), inputs["labels"])
    return _one_by_one(folder, lambda texts: head.predict(model.encode(texts)))


def _one_by_one(folder: Path, predict: Callable[[list[str]], Any]) -> Side:
    texts = json.loads((folder / "inputs.json").read_text("utf-8"))["asked"]
    predict(texts[:1])
    all_times: list[float] = []

    def trial() -> Facts:
        times = []
        for text in texts:
            start = time.perf_counter()
            predict([text])
            times.append(1000 * (time.perf_counter() - start))
        all_times.extend(times)
        return {"p95": _quantile(times, 0.95)}

    return Side(trial, lambda: {"p50_ms": _quantile(all_times, 0.5), "p95_ms": _quantile(all_times, 0.95)})


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


BENCHMARKS = (
    Benchmark(
        "first_answer",
        ours_first,
        transformers_first,
        against="importing transformers and loading, no answer",
        unit="s",
        target=1 / 1.5,
        prepare=prepare,
        value=lambda ready: ready["wall_s"],
        fresh=True,
    ),
    Benchmark(
        "single_text_p95",
        ours_single,
        logistic_regression,
        against="sentence-transformers + logistic regression",
        unit="ms",
        target=1.0,
        prepare=prepare,
        value=lambda trial: trial["p95"],
    ),
)

if __name__ == "__main__":
    serve(globals())
