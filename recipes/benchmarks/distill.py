"""Students beside their teachers: accuracy and calibration on all test texts, and speed.

    OMP_NUM_THREADS=1 python recipes/benchmarks/distill.py --data-root data
    OMP_NUM_THREADS=1 python recipes/benchmarks/distill.py --report-only

A teacher is fitted to some texts of each class, drawn from the official training part, plain or refined. Its student
is taught on all texts of that part, without their labels. A run is one draw, kind of teacher and number of layers. It
is kept at once in `results/distill_runs.jsonl`, and what is there is not run again. Teacher and student predict the
same texts in turn, in one process; times are CPU seconds, and a run has the median of its turns. Intervals are 95 %,
over the draws.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tyro
from full_label import read, split

from fewtext import Encoder, FewShotClassifier, LabeledTexts, Row, distill, load_texts, write_results
from fewtext.embedding import remembered
from fewtext.metrics.scores import accuracy, calibration_error, mean_ci
from fewtext.nn.pretrained import MINILM
from fewtext.results import table

RUNS = Path(__file__).parent / "results" / "distill_runs.jsonl"
KEY = ("seed", "kind", "layers")
TIMED, TURNS = 500, 5  # texts of a turn
MEASURES = {  # entry of a run → what the row is called, and its unit
    "accuracy": ("accuracy", "accuracy"),
    "ece": ("calibration error", "share"),
    "accepted": ("accepted", "share"),
    "texts_per_s": ("predict", "texts/s"),
}
Run = dict[str, Any]


def main(
    *,
    name: str = "banking77",
    data_root: Path | None = None,
    base: str = MINILM,
    shots: int = 10,
    seeds: int = 3,
    kinds: tuple[str, ...] = ("plain", "refined"),
    layers: tuple[int, ...] = (0, 1),
    steps: int = 600,
    runs: Path = RUNS,
    report_only: bool = False,
) -> None:
    """Run what is missing, then write the report.

    Args:
        name: data card of the set.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        shots: texts per class that a teacher is fitted to.
        seeds: draws of these texts.
        kinds: of teachers, `plain` or `refined`.
        layers: of the students.
        steps: of teaching.
        runs: file that keeps the runs; the report stands beside it.
        report_only: run nothing.
    """
    if not report_only:
        train, test = split(load_texts(name, data_root=data_root))
        encoder = Encoder.from_pretrained(base)
        remembered(encoder, train.texts)  # for all plain teachers
        for seed, kind in product(range(seeds), kinds):
            known = {tuple(run[entry] for entry in KEY) for run in read(runs)}
            if missing := [count for count in layers if (seed, kind, count) not in known]:
                support = train.at_most(shots, seed=seed)
                labels = np.array(support.classes)[support.labels]
                teacher = FewShotClassifier(encoder, refine=kind == "refined").fit(support.texts, labels)
                for count in missing:
                    run = dict(zip(KEY, (seed, kind, count), strict=True))
                    run |= measure(teacher, train.texts, test, count, steps)
                    with runs.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(run) + "\n")
    rows = rows_of(read(runs), f"{name}/{shots}-shot")
    write_results(runs.with_name("distill.json"), rows, "distill.py")
    print(table(rows))


def measure(teacher: FewShotClassifier, texts: Sequence[str], test: LabeledTexts, layers: int, steps: int) -> Run:
    """Distil, and ask both."""
    _ = teacher.certainty_  # a part of fitting that waits until it is asked for
    start = time.process_time()
    student = distill(teacher, texts, layers=layers, steps=steps)
    run: Run = {"distil_s": time.process_time() - start}
    both = {"teacher": teacher, "student": student}
    truth = np.array([teacher.classes_.tolist().index(test.classes[label]) for label in test.labels])
    for name, own in both.items():
        chances = own.predict_proba(test.texts)
        run[f"{name}_accuracy"] = accuracy(chances.argmax(axis=1), truth)
        run[f"{name}_ece"] = calibration_error(chances, truth)
        run[f"{name}_accepted"] = float(np.mean([answer.label is not None for answer in own.classify(test.texts)]))
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(TURNS):
        for name, own in both.items():
            start = time.process_time()
            own.predict(test.texts[:TIMED])
            seconds[name].append(time.process_time() - start)
    rates = {f"{name}_texts_per_s": min(TIMED, len(test)) / median(trials) for name, trials in seconds.items()}
    turns = zip(seconds["teacher"], seconds["student"], strict=True)
    return run | rates | {"ratio": median(slow / fast for slow, fast in turns)}


def rows_of(runs: Sequence[Run], place: str) -> list[Row]:
    """Return the means over the draws."""
    found = []
    for kind, layers in sorted({(run["kind"], run["layers"]) for run in runs}):
        own = [run for run in runs if (run["kind"], run["layers"]) == (kind, layers)]
        at, count = f"{place}/{kind} teacher, student of {layers} layers", len(own)
        apart = mean_ci([100 * (run["student_accuracy"] - run["teacher_accuracy"]) for run in own])
        found.append(Row(f"{at}/student − teacher", apart[0], "points", apart[1], count))
        for entry, (what, unit) in MEASURES.items():
            (mean, half), (peer, _) = (
                mean_ci([run[f"{who}_{entry}"] for run in own]) for who in ("student", "teacher")
            )
            row = Row(f"{at}/{what}", mean, unit, half, count, peer="teacher", peer_value=peer)
            ratio = mean_ci([run["ratio"] for run in own])[0] if entry == "texts_per_s" else None
            found.append(replace(row, ratio=ratio))
        found.append(Row(f"{at}/distil", mean_ci([run["distil_s"] for run in own])[0], "s", n=count))
    return found


if __name__ == "__main__":
    tyro.cli(main)
