"""Predicting, against encoding alone: what a classifier costs beyond its encoder.

python recipes/benchmarks/speed.py --rows predict_77 predict_10000
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from harness import Benchmark, Facts, Side, per_second, serve

WARM_UP = 64


def prepare(folder: Path, material: Any, *, classes: int | None = None) -> None:
    """Save a classifier of the material's classes, or of so many made-up ones, and the texts to classify."""
    from made_up import made_up_texts

    from fewtext import FewShotClassifier

    texts, labels = material.supports
    if classes is not None:
        number = 50 if material.quick else classes
        texts, labels = made_up_texts(material.train.texts, number), [f"class {n}" for n in range(number)]
    FewShotClassifier(str(material.base)).fit(texts, labels).save_pretrained(folder / "classifier")
    (folder / "inputs.json").write_text(json.dumps({"texts": material.test.texts}), "utf-8")


def ours(folder: Path) -> Side:
    """Predict labels."""
    return _classifying(folder, encode_only=False)


def encode_only(folder: Path) -> Side:
    """Only encode, with the classifier's own encoder."""
    return _classifying(folder, encode_only=True)


def _classifying(folder: Path, *, encode_only: bool) -> Side:
    from fewtext import Artifact, FewShotClassifier
    from fewtext.nn.matmul import fast_matmul

    texts = json.loads((folder / "inputs.json").read_text("utf-8"))["texts"]
    if encode_only:
        work = Artifact.from_pretrained(folder / "classifier").learner.encoder.encode
    else:
        work = FewShotClassifier.from_pretrained(folder / "classifier").predict

    def trial(number: int = len(texts)) -> Facts:
        with fast_matmul():
            work(texts[:number])
        return {"amount": number}

    trial(WARM_UP)
    return Side(trial)


ENCODING: dict[str, Any] = {
    "ours": ours,
    "peer": encode_only,
    "against": "encoding alone",
    "unit": "texts/s",
    "value": per_second,
    "more_is_better": True,
}
BENCHMARKS = (
    Benchmark("predict_77", target=1 / 1.05, prepare=prepare, **ENCODING),
    Benchmark("predict_10000", target=1 / 1.2, prepare=partial(prepare, classes=10_000), **ENCODING),
)

if __name__ == "__main__":
    serve(globals())
