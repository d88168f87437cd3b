"""All classes of a set from a few texts each: accuracy against fit seconds, beside rivals on the same encoder.

    make full-label
    .venv-bench/bin/python recipes/benchmarks/full_label.py --again fewtext-plain fewtext-refined
    .venv-bench/bin/python recipes/benchmarks/full_label.py --report-only

A run is one set, number of shots, seed and method (rivals.py), in a process of its own on one core. It is kept at
once in `results/full_label_runs.jsonl`, so an interruption costs one run, and what is there is not run again. Every
method has its first seed before any has its second. The report is made from that file.

Supports are drawn from the official training part, and all official test texts are classified: of hwu64, which has
no official parts, fold 1; of clinc150 those in scope. cr, which has not even folds, loses its duplicates and is dealt
into halves by class, always the same ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import tyro
from full_label_report import cells_of, draw, rows_of, text_of
from report import header, put_table, read
from sklearn.model_selection import train_test_split

from fewtext import LabeledTexts, load_texts, write_results
from fewtext.data.texts import normalise
from fewtext.metrics.scores import accuracy, macro_f1
from fewtext.nn.matmul import onednn_is_exact
from fewtext.nn.pretrained import MINILM, locate

HERE = Path(__file__).parent
RUNS = HERE / "results" / "full_label_runs.jsonl"
SETS = ("banking77", "clinc150", "hwu64", "sst5", "cr")
METHODS = (  # cheap ones first
    "frozen-logistic-regression",
    "frozen-logistic-regression-names",
    "fewtext-plain",
    "fewtext-refined",
    "setfit",
    "fastfit-reduced",
    "fastfit-readme",
)
SLOW = METHODS[4:]
TIMED_SEEDS = (
    1  # of the slow ones; with further seeds they take PyTorch's faster products, and their times do not count
)
FAVOURED = ("fastfit-reduced", "fastfit-readme")  # take them with all seeds, and their times count
KEY = ("seed", "set", "shots", "method")
Run = dict[str, Any]


def main(
    *,
    sets: tuple[str, ...] = SETS,
    shots: tuple[int, ...] = (5, 10),
    seeds: int = 5,
    methods: tuple[str, ...] = METHODS,
    again: tuple[str, ...] = (),
    data_root: Path | None = None,
    base: str = MINILM,
    bf16: bool = False,
    runs: Path = RUNS,
    report_only: bool = False,
) -> None:
    """Run what is missing, then write the report.

    Args:
        sets: data cards of the sets.
        shots: texts per class.
        seeds: draws of the supports.
        methods: what to compare, in this order.
        again: methods whose runs are dropped first.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        bf16: FastFit in mixed precision, which its README has in fp16; these times do not count.
        runs: file that keeps the runs; the report stands beside it.
        report_only: run nothing.
    """
    if unknown := sorted({*methods, *again} - set(METHODS)):
        raise SystemExit(f"no method {unknown[0]!r}. Methods: {', '.join(METHODS)}.")
    if again:
        keep = [run for run in read(runs) if run["method"] not in again]
        runs.write_text("".join(json.dumps(run) + "\n" for run in keep), "utf-8")
    parts = {} if report_only else {name: split(load_texts(name, data_root=data_root)) for name in sets}
    for key in product(range(seeds), parts, shots, methods):
        if key in {tuple(run[entry] for entry in KEY) for run in read(runs)}:
            continue
        seed, name, number, method = key
        train, test = parts[name]
        run = dict(zip(KEY, key, strict=True)) | measure(
            train.at_most(number, seed=seed), test, seed, method, base, bf16
        )
        with runs.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
        print(*key, f"accuracy {run['accuracy']:.1%}, fit {run['fit_s']:.1f} s", file=sys.stderr, flush=True)
    cells = cells_of(read(runs))
    write_results(runs.with_name("full_label.json"), rows_of(cells), "make full-label")
    draw(cells, runs.with_name("full_label.png"))
    if runs == RUNS:
        put_table(HERE / "README.md", text_of(cells), "full_label.py")


def split(texts: LabeledTexts) -> tuple[LabeledTexts, LabeledTexts]:
    """Return training and test texts: the card's own parts, else halves of each class without duplicates."""
    if texts.partition is not None:
        return texts.part("train"), texts.part("test")
    first = {normalise(text): row for row, text in reversed(list(enumerate(texts.texts)))}
    rows = texts.rows(sorted(first.values()))
    halves = train_test_split(np.arange(len(rows)), test_size=0.5, stratify=rows.labels, random_state=0)
    return rows.rows(halves[0]), rows.rows(halves[1])


def measure(support: LabeledTexts, test: LabeledTexts, seed: int, method: str, base: str, bf16: bool) -> Run:
    """Fit and predict in a process of its own; returns times, memory and scores."""
    fast = (method in FAVOURED or (method in SLOW and seed >= TIMED_SEEDS)) and onednn_is_exact()
    bf16 = bf16 and method in FAVOURED
    inputs = {
        "base": str(locate(base).folder),
        "texts": list(support.texts),
        "labels": [support.classes[label] for label in support.labels],
        "words": {label: support.words(position) for position, label in enumerate(support.classes)},
        "test": list(test.texts),
        "seed": seed,
        "fast_products": fast,
        "bf16": bf16,
    }
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "inputs.json").write_text(json.dumps(inputs), "utf-8")
        fit, found = ask(method, Path(place))
    right, guesses = np.array([test.classes[label] for label in test.labels]), np.array(found.pop("answers"))
    scores = {"accuracy": accuracy(guesses, right), "macro_f1": macro_f1(guesses, right)}
    facts = {
        "fit_s": fit["cpu_s"],
        "fit_wall_s": fit["wall_s"],
        "timed": not bf16 and (not fast or method in FAVOURED),
        "texts": len(support),
    }
    made = header("full_label.py")
    when = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": made.get("commit"), "machine": made["machine"]}
    return scores | facts | found | {"tests": len(test)} | when


def ask(method: str, folder: Path) -> tuple[Run, Run]:
    """Have a side fit and predict; returns its facts about either."""
    python = HERE.parents[1] / ".venv-fastfit" / "bin" / "python" if method.startswith("fastfit") else sys.executable
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [str(python), rivals.__file__, method.replace("-", "_"), str(folder)]
    done = subprocess.run(command, input="trial\nfinish\n", capture_output=True, text=True, env=os.environ | alone)
    if done.returncode:
        raise RuntimeError(f"{method} failed:\n{done.stderr[-2000:]}")
    _, fit, found = map(json.loads, done.stdout.splitlines())
    return fit, found


if __name__ == "__main__":
    tyro.cli(main)
