"""The methods that full_label.py compares, each a side as in harness.py: a trial fits, the end predicts.

    .venv-bench/bin/python recipes/benchmarks/rivals.py setfit FOLDER

is how the driver runs one; FOLDER holds `inputs.json`. Loading the encoder and a first text are set-up. Rivals read
plain JSON and import no fewtext.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import metadata
from json import loads
from pathlib import Path
from typing import Any

from harness import Facts, Side, peak_mb, serve

SETFIT = {"num_iterations": 5, "batch_size": 16, "num_epochs": 1}
FASTFIT = {  # of its README, but for fp16, which needs a GPU; `bf16` in the inputs comes nearest to it
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "num_repeats": 4,
    "optim": "adafactor",
    "clf_loss_factor": 0.1,
}
LOGISTIC: dict[str, Any] = {"C": 100, "max_iter": 2000}
QUIET = {"report_to": "none", "save_strategy": "no"}
WARM = (["where is it", "who was it", "where was it", "who is it"], ["place", "person", "place", "person"])


def frozen_logistic_regression(folder: Path) -> Side:
    """Logistic regression on the embeddings of sentence-transformers."""
    return _frozen(folder, names=False)


def frozen_logistic_regression_names(folder: Path) -> Side:
    """The same, with the name of each class as one more text of it."""
    return _frozen(folder, names=True)


def _frozen(folder: Path, *, names: bool) -> Side:
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    from sklearn.linear_model import LogisticRegression

    inputs = _inputs(folder)
    encoder = SentenceTransformer(inputs["base"], device="cpu")
    head = LogisticRegression(**LOGISTIC)
    texts, labels = inputs["texts"], inputs["labels"]
    if names:
        texts, labels = texts + list(inputs["words"].values()), labels + list(inputs["words"])
    encoder.encode(WARM[0])
    return _side(
        inputs,
        lambda: head.fit(encoder.encode(texts), labels),
        lambda given: list(map(str, head.predict(encoder.encode(given)))),
        LOGISTIC,
        ("sentence-transformers", "scikit-learn"),
    )


def setfit(folder: Path) -> Side:
    """SetFit with its default head."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments  # pyright: ignore[reportMissingImports]

    inputs = _inputs(folder)
    classes = sorted(inputs["words"])
    rows = {"text": inputs["texts"], "label": [classes.index(label) for label in inputs["labels"]]}
    model = SetFitModel.from_pretrained(inputs["base"])
    arguments = TrainingArguments(output_dir=str(folder / "setfit"), seed=inputs["seed"], **SETFIT, **QUIET)
    trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
    return _side(
        inputs,
        trainer.train,
        lambda given: [classes[n] for n in model.predict(given)],
        SETFIT,
        ("setfit", "sentence-transformers"),
    )


def fastfit_readme(folder: Path) -> Side:
    """FastFit, which reads the names of the classes, too, as its README has it."""
    return _fastfit(folder, num_train_epochs=40, max_text_length=128)


def fastfit_reduced(folder: Path) -> Side:
    """A quarter of the epochs, and texts cut at FastFit's own default: many classes take hours otherwise."""
    return _fastfit(folder, num_train_epochs=10, max_text_length=32)


def _fastfit(folder: Path, **settings: Any) -> Side:
    import datasets
    import torch

    # Removed from datasets, but imported by FastFit; the metric it would download is not asked for here.
    datasets.load_metric = lambda *name, **settings: None  # pyright: ignore[reportAttributeAccessIssue]
    from fastfit import FastFitTrainer  # pyright: ignore[reportMissingImports]
    from transformers import AutoTokenizer

    inputs = _inputs(folder)
    settings |= {"bf16": True, "use_cpu": True} if inputs["bf16"] else {}
    label_of = {words: label for label, words in inputs["words"].items()}
    names = [inputs["words"][label] for label in inputs["labels"]]
    rows = datasets.Dataset.from_dict({"text": inputs["texts"], "label": names})
    trainer = FastFitTrainer(
        model_name_or_path=inputs["base"],
        output_dir=str(folder / "fastfit"),
        text_column_name="text",
        label_column_name="label",
        dataset=datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), rows)),
        seed=inputs["seed"],
        **settings,
        **FASTFIT,
        **QUIET,
    )
    tokenizer = AutoTokenizer.from_pretrained(inputs["base"])  # the trainer has changed its own one

    def predict(given: Sequence[str]) -> list[str]:  # as its `FastFit` model does, in batches
        model, size, best = trainer.model.eval(), FASTFIT["per_device_eval_batch_size"], []
        for batch in (given[start : start + size] for start in range(0, len(given), size)):
            limits = {"truncation": True, "max_length": settings["max_text_length"]}
            tokens = tokenizer(batch, padding=True, return_tensors="pt", **limits)
            with torch.inference_mode():
                best += model.inference_forward(tokens["input_ids"], tokens["attention_mask"]).argmax(1).tolist()
        return [label_of[trainer.labels[n]] for n in best]

    return _side(inputs, trainer.train, predict, FASTFIT | settings, ("fast-fit", "transformers"))


def fewtext_plain(folder: Path) -> Side:
    """FewShotClassifier as it is by default."""
    return _fewtext(folder, refine=False)


def fewtext_refined(folder: Path) -> Side:
    """FewShotClassifier on an encoder that is refined first."""
    return _fewtext(folder, refine=True)


def _fewtext(folder: Path, **settings: Any) -> Side:
    from fewtext import FewShotClassifier

    inputs = _inputs(folder)
    classifier = FewShotClassifier(inputs["base"], **settings).fit(*WARM)
    return _side(
        inputs,
        lambda: classifier.fit(inputs["texts"], inputs["labels"]),
        lambda given: classifier.predict(given).tolist(),
        settings,
        ("fewtext",),
    )


def _inputs(folder: Path) -> Facts:
    import torch

    inputs = loads((folder / "inputs.json").read_text("utf-8"))
    torch.manual_seed(inputs["seed"])
    if inputs["fast_products"]:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # pyright: ignore[reportAttributeAccessIssue]
    return inputs


def _side(
    inputs: Facts,
    fit: Callable[[], object],
    predict: Callable[[Sequence[str]], list[str]],
    settings: Facts,
    packages: tuple[str, ...],
) -> Side:
    def finish() -> Facts:
        start = time.process_time()
        answers = predict(inputs["test"])
        speed = len(answers) / (time.process_time() - start)
        used = settings | ({"fast_products": True} if inputs["fast_products"] else {})
        versions = {name: metadata.version(name) for name in (*packages, "torch")}
        facts = {"texts_per_s": speed, "peak_mb": peak_mb(), "settings": used, "versions": versions}
        return facts | {"answers": answers}

    def trial() -> None:
        fit()

    return Side(trial, finish)


if __name__ == "__main__":
    serve(globals())
