"""Knowing what it does not know: texts of no class, beside the largest probability of other methods.

    .venv-bench/bin/python recipes/benchmarks/unknown.py
    .venv-bench/bin/python recipes/benchmarks/unknown.py --methods setfit --sets clinc150 --kinds out-of-scope-texts
    .venv-bench/bin/python recipes/benchmarks/unknown.py --methods setfit --sets banking77
    .venv-bench/bin/python recipes/benchmarks/unknown.py --report-only

The unknown texts are the set's own out-of-scope texts, or, as near misses, the test texts of a third of the classes,
held out at random. A run is one set, kind of unknown texts, number of shots, seed and method. It is kept at once in
`results/unknown_runs.jsonl`, and what is there is not run again. Nothing is chosen by test texts but the threshold at
which exactly 95 % of those of the classes are accepted, for every method alike.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from full_label import read, split
from report import put_table
from rivals import LOGISTIC, QUIET, SETFIT
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F
from unknown_report import KINDS, NEAR, Answers, cells_of, draw, measured, place_of, rows_of, text_of

from fewtext import Encoder, FewShotClassifier, LabeledTexts, load_texts, write_results
from fewtext.classifier.certainty import HeldOut, conformal_margin
from fewtext.embedding import remembered
from fewtext.heads import nearest
from fewtext.nn.matmul import fast_matmul, onednn_is_exact
from fewtext.nn.pretrained import MINILM, locate

HERE = Path(__file__).parent
RUNS = HERE / "results" / "unknown_runs.jsonl"
SETS = ("clinc150", "banking77", "hwu64")
HINTS = 50  # out-of-scope training texts of the method that is given some
CALIBRATION = 10  # texts per class that set the margin of prediction sets, if there are so many
KEY = ("seed", "set", "kind", "shots", "method")


@dataclass(frozen=True)
class Task:
    """What a run is about.

    Attributes:
        support: texts to learn from.
        calibration: further texts of these classes.
        test: texts of these classes to classify.
        unknown: texts of other classes, or of none.
        hints: out-of-scope texts that may be learned from.
        seed: of what was drawn.
    """

    support: LabeledTexts
    calibration: LabeledTexts
    test: LabeledTexts
    unknown: tuple[str, ...]
    hints: tuple[str, ...]
    seed: int

    @property
    def asked(self) -> tuple[str, ...]:
        """The texts a method is asked for: those of the classes, then the unknown ones."""
        return (*self.test.texts, *self.unknown)


def task_of(texts: LabeledTexts, kind: str, shots: int, seed: int) -> Task:
    """Draw supports, calibration texts, and with held-out classes these."""
    (train, test), rng = split(texts), np.random.default_rng(seed)
    if kind == NEAR:
        order = rng.permutation(train.classes).tolist()
        held, known = order[: len(order) // 3], order[len(order) // 3 :]
        unknown, hints, train, test = test.only(held).texts, [], train.only(known), test.only(known)
    else:
        unknown = test.out_of_scope
        hints = rng.permutation(sorted(set(train.out_of_scope) - set(unknown)))[:HINTS].tolist()
    support = train.at_most(shots, seed=seed)
    if "validation" in (texts.partition or ()):
        rest = texts.part("validation").only(support.classes)
    else:
        seen = set(support.texts)
        rest = train.rows([row for row, text in enumerate(train.texts) if text not in seen])
    return Task(support, rest.at_most(CALIBRATION, seed=seed), test, unknown, tuple(hints), seed)


def fewtext(task: Task, encoder: Encoder, *, refine: bool = False, hints: tuple[str, ...] = ()) -> Answers:
    """FewShotClassifier; what it would answer, with the embeddings of the texts asked remembered."""
    labels = [task.support.classes[label] for label in task.support.labels]
    classifier = FewShotClassifier(encoder, refine=refine).fit(task.support.texts, labels, out_of_scope=hints)
    own, asked = classifier.certainty_, _answered(classifier, task.asked)
    chances = (asked.logits / own.temperature).softmax(dim=1).numpy()
    found = _answered(classifier, task.calibration.texts, task.calibration.labels)
    below, sets = asked.logits.max(dim=1, keepdim=True).values - asked.logits, {}
    for wanted in (90, 95):
        chosen = (below <= conformal_margin(found, wanted / 100))[: len(task.test)].numpy()
        sets[f"covered_{wanted}"] = chosen[np.arange(len(chosen)), task.test.labels].mean()
        sets[f"size_{wanted}"] = chosen.sum(axis=1).mean()
    threshold = math.nan if own.threshold is None else own.threshold
    return Answers(chances, asked.scores(own.temperature).numpy(), threshold, own.temperature, sets)


def _answered(classifier: FewShotClassifier, texts: Sequence[str], labels: np.ndarray | None = None) -> HeldOut:
    state = classifier._state()
    with torch.no_grad(), fast_matmul():
        vectors = remembered(state.learner.encoder, texts)
    known = torch.zeros(len(texts), dtype=torch.long) if labels is None else torch.from_numpy(labels)
    logits = F.linear(vectors, state.head["weight"], state.head["bias"])
    return HeldOut(logits, nearest(vectors, state.head["means"]), known)


def fewtext_refined(task: Task, encoder: Encoder) -> Answers:
    """The same on an encoder that is refined first."""
    return fewtext(task, encoder, refine=True)


def fewtext_hints(task: Task, encoder: Encoder) -> Answers:
    """The same with some out-of-scope texts, for the threshold; they change no prediction set."""
    return replace(fewtext(task, encoder, hints=task.hints), sets={})


def frozen(task: Task, encoder: Encoder) -> Answers:
    """Logistic regression of scikit-learn, with the name of each class as one more text of it."""
    classes = range(len(task.support.classes))
    words = map(task.support.words, classes)
    vectors = remembered(encoder, [*task.support.texts, *words]).numpy()
    head = LogisticRegression(**LOGISTIC).fit(vectors, [*task.support.labels, *classes])
    return Answers.plain(head.predict_proba(remembered(encoder, task.asked).numpy()))


def setfit(task: Task, encoder: Encoder) -> Answers:
    """SetFit with its default head, in a process of its own, as it is set up by global switches."""
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return Answers.plain(alone.submit(_setfit, task, str(locate(MINILM).folder)).result())


def _setfit(task: Task, base: str) -> np.ndarray:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments  # pyright: ignore[reportMissingImports]

    torch.manual_seed(task.seed)
    if onednn_is_exact():
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # pyright: ignore[reportAttributeAccessIssue]
    rows = Dataset.from_dict({"text": list(task.support.texts), "label": task.support.labels.tolist()})
    model = SetFitModel.from_pretrained(base)
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(output_dir=place, seed=task.seed, **SETFIT, **QUIET)
        Trainer(model=model, args=arguments, train_dataset=rows).train()
    return np.asarray(model.predict_proba(list(task.asked), as_numpy=True))


METHODS: dict[str, Callable[[Task, Encoder], Answers]] = {
    "fewtext": fewtext,
    "fewtext-50-out-of-scope": fewtext_hints,
    "frozen-logistic-regression-names": frozen,
    "fewtext-refined": fewtext_refined,
    "setfit": setfit,
}
SEEDS = {"setfit": 1}  # of those that take minutes


def main(
    *,
    sets: tuple[str, ...] = SETS,
    kinds: tuple[str, ...] = KINDS,
    shots: tuple[int, ...] = (5, 10),
    seeds: int = 5,
    methods: tuple[str, ...] = tuple(METHODS),
    data_root: Path | None = None,
    runs: Path = RUNS,
    answers: Path = Path("runs/unknown"),
    report_only: bool = False,
) -> None:
    """Run what is missing, then write the report.

    Args:
        sets: data cards of the sets.
        kinds: of unknown texts.
        shots: texts per class.
        seeds: draws of supports and of held-out classes.
        methods: what to compare, in this order.
        data_root: folder in which data cards find their data.
        runs: file that keeps the runs; the report stands beside it.
        answers: folder that keeps what the methods say in the first seed, for the pictures.
        report_only: run nothing.
    """
    texts = {} if report_only else {name: load_texts(name, data_root=data_root) for name in sets}
    encoder = Encoder.from_pretrained(MINILM)
    for key in product(range(seeds), texts, kinds, shots, methods):
        seed, name, kind, number, method = key
        if seed >= SEEDS.get(method, seeds) or key in {tuple(run[entry] for entry in KEY) for run in read(runs)}:
            continue
        task = task_of(texts[name], kind, number, seed)
        if not task.unknown or not (task.hints or METHODS[method] is not fewtext_hints):
            continue
        found = METHODS[method](task, encoder)
        run = dict(zip(KEY, key, strict=True)) | measured(found, task.test.labels)
        runs.parent.mkdir(parents=True, exist_ok=True)
        with runs.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
        print(*key, f"AUROC {run['auroc']:.1%}", file=sys.stderr, flush=True)
        if seed == 0:
            folder = answers / place_of(run)
            folder.mkdir(parents=True, exist_ok=True)
            kept = {entry: value for entry, value in vars(found).items() if entry != "sets"}
            np.savez_compressed(folder / f"{method}.npz", labels=task.test.labels, **kept)
    cells = cells_of(read(runs))
    write_results(runs.with_name("unknown.json"), rows_of(cells), "unknown.py")
    draw(answers / next(iter(cells)), runs.parent)
    if runs == RUNS:
        put_table(HERE / "README.md", text_of(cells), "unknown.py")


if __name__ == "__main__":
    tyro.cli(main)
