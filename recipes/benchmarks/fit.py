"""Fitting a classifier to a few texts of each class, against SetFit on the same texts and the same encoder.

    python recipes/benchmarks/speed.py --rows fit_plain fit_refined edit

SetFit trains for minutes, so it is run once by default (`--slow-repeats`). Loading the encoder counts on neither
side. An edit has no peer: SetFit trains again. It is measured against the time it may take.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import Benchmark, Facts, Side, serve

EDIT_SHOTS = 10
EDIT_SECONDS = 0.3  # that an edit may take
SETFIT = {"num_iterations": 5, "batch_size": 16, "num_epochs": 1, "report_to": "none", "save_strategy": "no"}


def prepare(folder: Path, material: Any) -> None:
    """Write the supports and the test texts."""
    material.write(folder)


def ours(folder: Path) -> Side:
    """FewShotClassifier as it is by default."""
    return _fewtext(folder, refine=False)


def ours_refined(folder: Path) -> Side:
    """FewShotClassifier on an encoder that is refined first."""
    return _fewtext(folder, refine=True)


def _fewtext(folder: Path, *, refine: bool) -> Side:
    from fewtext import FewShotClassifier
    from fewtext.bases import load_base
    from fewtext.embedding import forget

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    classifier, encoder = FewShotClassifier(inputs["base"], refine=refine), load_base(inputs["base"]).encoder
    supports = inputs["supports"]
    classifier.fit(supports["texts"][-20:], supports["labels"][-20:])

    def trial() -> None:
        forget(encoder)  # of the trial before, the embeddings are remembered
        classifier.fit(supports["texts"], supports["labels"])

    return Side(trial, lambda: _accuracy(classifier.predict, inputs))


def setfit(folder: Path) -> Side:
    """SetFit with its default head."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments  # pyright: ignore[reportMissingImports]

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    supports = inputs["supports"]
    classes = sorted(set(supports["labels"]))
    rows = {"text": supports["texts"], "label": [classes.index(label) for label in supports["labels"]]}
    fitted: list[Any] = []

    def trial() -> Facts:
        import time

        model = SetFitModel.from_pretrained(inputs["base"])
        arguments = TrainingArguments(output_dir=str(folder / "setfit"), **SETFIT)
        trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
        start = time.process_time()
        trainer.train()
        fitted[:] = [model]
        return {"cpu_s": time.process_time() - start}

    return Side(trial, lambda: _accuracy(lambda texts: [classes[n] for n in fitted[0].predict(texts)], inputs))


def edit(folder: Path) -> Side:
    """One more text for a FewShotClassifier of ten texts a class."""
    from fewtext import FewShotClassifier

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    taken, supports, others = Counter(), [], []
    for text, label in zip(inputs["train"]["texts"], inputs["train"]["labels"], strict=True):
        (supports if taken[label] < EDIT_SHOTS else others).append((text, label))
        taken[label] += 1
    classifier = FewShotClassifier(inputs["base"]).fit(*zip(*supports, strict=True))

    def trial() -> None:
        text, label = others.pop()
        classifier.add_examples([text], [label])

    trial()
    return Side(trial)


def allowed(folder: Path) -> Side:
    """The time that an edit may take."""
    return Side(lambda: {"cpu_s": EDIT_SECONDS})


def _accuracy(predict: Callable[[Sequence[str]], Any], inputs: Facts) -> Facts:
    guesses, truth = list(predict(inputs["test"]["texts"])), inputs["test"]["labels"]
    return {"accuracy": sum(guess == label for guess, label in zip(guesses, truth, strict=True)) / len(truth)}


SETFIT_PEER: dict[str, Any] = {
    "peer": setfit,
    "against": "SetFit",
    "unit": "s",
    "prepare": prepare,
    "slow_peer": True,
}
BENCHMARKS = (
    Benchmark("fit_plain", ours, target=100.0, **SETFIT_PEER),
    Benchmark("fit_refined", ours_refined, target=8.0, **SETFIT_PEER),
    Benchmark("edit", edit, allowed, against="at most so long", unit="s", target=1.0, prepare=prepare),
)

if __name__ == "__main__":
    serve(globals())
