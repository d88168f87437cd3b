"""The leaderboard of learners: runs are real, kept and not run again; the report's arithmetic is checked by hand."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fewtext import Lora

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a file of benchmarks as its driver does: from its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in ("learners", "learners_report", "report"):
        sys.modules.pop(name, None)


def run(learner, accuracy, **changes):
    costs = {} if learner == "frozen" else {"step_s": 0.5, "best_step": 20, "adapt_ms": {"1": 4.0, "5": 8.0}}
    plain = {"learner": learner, "set": "toy", "episodes": 4, "peak_mb": 800.0, "accuracy": {"1": accuracy}}
    return plain | costs | changes


@pytest.fixture
def runs():
    heads = {"prototypes + names": [0.5, 0.6, 0.7, 0.8], "logistic regression": [0.1] * 4}
    frozen = run("frozen", heads | {"logistic regression + names": [0.5, 0.55, 0.65, 0.7]})
    control = run("multitask", {"multitask": [0.5, 0.6, 0.7, 0.7]})
    better, mixed = run("better", {"better": [0.6, 0.7, 0.8, 0.9]}), run("mixed", {"mixed": [0.9, 0.5, 0.7, 0.6]})
    return [frozen, control, better, mixed]


def test_differences_are_paired_with_the_frozen_encoder(load, runs):
    rows = {row.name: row for row in load("learners_report").rows_of(runs)}
    gain = rows["better/toy/1-shot − frozen prototypes + names"]
    assert gain.value == pytest.approx(10.0)
    assert gain.ci95 == pytest.approx(0.0, abs=1e-9)  # ten points in every episode
    assert rows["mixed/toy/1-shot"].value == pytest.approx(0.675)
    assert rows["mixed/toy/1-shot − frozen prototypes + names"].ci95 > 10
    assert rows["better/toy/1-shot − frozen logistic regression + names"].value == pytest.approx(15.0)
    assert rows["better/toy/1-shot − multitask"].value == pytest.approx(12.5)
    assert not any(
        (name.startswith("frozen") and "−" in name) or name.endswith("multitask − multitask") for name in rows
    )
    assert rows["better/toy/meta-step"].value == 0.5
    assert rows["better/toy/5-shot/adaptation"].value == 8.0


def test_the_table_puts_the_best_first_and_marks_what_is_certain(load, runs):
    _, _, *lines = load("learners_report").text_of(runs).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == [
        "better",
        "mixed",
        "frozen prototypes + names",
        "multitask",
        "frozen logistic regression + names",
        "frozen logistic regression",
    ]
    assert "(**+10.0 ± 0.0**)†‡" in lines[0]
    assert "| 0.50 | 20 | 4/8 | 800 |" in lines[0]
    assert not {"*", "†", "‡"} & {*lines[1]}


def test_a_run_trains_and_tests_on_the_embedded_corpus(load, tiny_folder, monkeypatch):
    learners = load("learners")
    monkeypatch.setattr(learners, "LORA", Lora(rank=2))
    found, frozen = (
        learners.measure(name, "everyday", 2, 3, None, str(tiny_folder)) for name in ("prototypical", "frozen")
    )
    for shots in (1, 5):
        assert {len(values) for values in found["accuracy"][shots].values()} == {3}
        assert frozen["accuracy"][shots].keys() >= {"prototypes + names", "logistic regression"}
        assert found["adapt_ms"][shots] > 0
    assert found["accuracy"][1].keys() == {"prototypical", "prototypical-transductive"}
    assert np.isfinite(found["train_s"])


def test_what_is_kept_is_not_run_again(load, runs, tmp_path, monkeypatch):
    learners, file = load("learners"), tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(own) + "\n" for own in runs), "utf-8")
    monkeypatch.setattr(learners, "measure", lambda *_: pytest.fail("it was run again"))
    learners.main(sets=("toy",), learners=("frozen",), runs=file)
    rows = json.loads(file.with_name("learners.json").read_text("utf-8"))["rows"]
    assert any(row["name"] == "better/toy/1-shot" for row in rows)
    with pytest.raises(SystemExit, match="no learner 'protonet'"):
        learners.main(learners=("protonet",), runs=file)
