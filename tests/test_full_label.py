"""The comparison of whole classifiers: runs are kept, resumed and averaged. All are made up but one of ours."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

from fewtext import LabeledTexts

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"
FILES = ("full_label", "full_label_report", "harness", "report", "rivals")


@pytest.fixture
def load(monkeypatch):
    """Import a file of benchmarks as its driver does: from its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in FILES:
        sys.modules.pop(name, None)


def run(method, seed=0, **changes):
    """Return a made-up run."""
    plain = {"set": "toy", "shots": 5, "seed": seed, "method": method, "accuracy": 0.8, "macro_f1": 0.7, "fit_s": 2.0}
    plain |= {"texts_per_s": 100.0, "peak_mb": 900.0, "timed": True, "settings": {"C": 100}, "versions": {"x": "1"}}
    return plain | changes


@pytest.fixture
def runs():
    """Three seeds of ours, two of a faster and better rival, two of a slow one, the second not timed."""
    ours = [run("fewtext-plain", seed, accuracy=share) for seed, share in enumerate((0.70, 0.80, 0.99))]
    frozen = [
        run("frozen-logistic-regression", seed, accuracy=share, fit_s=1.0) for seed, share in enumerate((0.72, 0.84))
    ]
    return ours + frozen + [run("setfit", 0, fit_s=200.0), run("setfit", 1, fit_s=9.0, timed=False)]


def test_differences_are_paired_over_the_seeds_both_have(load, runs):
    rows = {row.name: row for row in load("full_label_report").rows_of(load("full_label_report").cells_of(runs))}
    row = rows["toy/5-shot/fewtext-plain − frozen-logistic-regression"]
    assert (row.n, row.unit) == (2, "points")
    assert row.value == pytest.approx(-3.0)
    assert row.ci95 == pytest.approx(12.706, abs=0.01)  # two values a point off the mean; Student's t is 12.7 here


def test_runs_that_are_not_timed_count_for_scores_only(load, runs):
    rows = {row.name: row for row in load("full_label_report").rows_of(load("full_label_report").cells_of(runs))}
    assert (rows["toy/5-shot/setfit"].n, rows["toy/5-shot/setfit, fit"].n) == (2, 1)
    assert rows["toy/5-shot/setfit, fit"].value == 200
    assert rows["toy/5-shot/frozen-logistic-regression, macro-F1"].value == pytest.approx(0.7)


def test_where_no_run_is_timed_the_times_stand_in_brackets(load, runs):
    report = load("full_label_report")
    cells = report.cells_of([*runs, run("fastfit-readme", 0, fit_s=900.0, timed=False)])
    assert "| toy/5-shot/fastfit-readme | 80.0 | 70.0 | (900) | (100) | (900) | 1 |" in report.text_of(cells)
    names = {row.name for row in report.rows_of(cells)}
    assert "toy/5-shot/fastfit-readme" in names
    assert "toy/5-shot/fastfit-readme, fit" not in names


def test_a_single_seed_has_no_interval(load):
    assert load("full_label_report").mean_ci([0.5])[0] == 0.5
    assert math.isnan(load("full_label_report").mean_ci([0.5])[1])


def test_the_readme_says_who_is_both_faster_and_better(load, runs):
    report = load("full_label_report")
    text = report.text_of(report.cells_of(runs))
    assert "| **toy/5-shot/fewtext-plain** | 83.0 ± 36.6 | 70.0 ± 0.0 | 2 | 100 | 900 | 3 |" in text
    assert "| toy/5-shot/fewtext-plain − | -3.0 ± 12.7 (2) | -5.0 ± 63.5 (2) |" in text
    assert "toy/5-shot frozen-logistic-regression than fewtext-plain (-3.0 ± 12.7 points)." in text
    assert "- setfit: C 100 (x 1)" in text
    assert "toy/5-shot none." in report.text_of(
        report.cells_of([run("fewtext-plain"), run("frozen-logistic-regression")])
    )
    assert "toy/5-shot not measured." in report.text_of(report.cells_of([run("frozen-logistic-regression")]))


def test_a_report_is_made_of_what_is_there(load, runs, tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in runs), "utf-8")
    load("full_label").main(runs=file, report_only=True)
    found = json.loads((tmp_path / "full_label.json").read_text("utf-8"))
    assert [row["value"] for row in found["rows"] if row["name"] == "toy/5-shot/setfit"] == [0.8]
    assert (tmp_path / "full_label.png").stat().st_size > 5_000


def test_what_is_there_is_not_run_again_unless_asked_for(load, monkeypatch, tmp_path):
    full_label, seen = load("full_label"), []

    def measure(support, test, seed, method, base, bf16):
        seen.append((seed, len(support), method))
        assert not bf16
        return {key: value for key, value in run(method).items() if key not in full_label.KEY}

    monkeypatch.setattr(full_label, "measure", measure)
    given = {"sets": ("everyday",), "seeds": 2, "shots": (1,), "runs": tmp_path / "runs.jsonl"}
    both = ("frozen-logistic-regression", "fewtext-plain")
    full_label.main(**given, methods=both)
    assert seen == [(seed, 70, method) for seed in range(2) for method in both]
    full_label.main(**given, methods=both)
    assert len(seen) == 4
    full_label.main(**given, methods=both, again=both[1:])
    assert seen[4:] == [(0, 70, "fewtext-plain"), (1, 70, "fewtext-plain")]
    assert len(full_label.read(tmp_path / "runs.jsonl")) == 4
    with pytest.raises(SystemExit, match="no method 'bert'"):
        full_label.main(**given, methods=("bert",))


def test_a_set_without_parts_is_dealt_into_halves_without_duplicates(load):
    rows = LabeledTexts.of([f"text {n}" for n in range(20)] + ["Text  3"], [f"c{n % 2}" for n in range(21)])
    train, test = load("full_label").split(rows)
    assert (len(train), len(test)) == (10, 10)
    assert not set(train.texts) & set(test.texts)
    assert [list(part.labels).count(0) for part in (train, test)] == [5, 5]


def test_one_of_our_methods_runs_as_a_process(load, minilm, tmp_path):
    full_label, file = load("full_label"), tmp_path / "runs.jsonl"
    full_label.main(sets=("everyday",), seeds=1, shots=(1,), methods=("fewtext-plain",), runs=file)
    (found,) = full_label.read(file)
    assert 0.3 < found["macro_f1"] < found["accuracy"] + 0.1 < 1
    assert (found["texts"], found["timed"], found["settings"]) == (70, True, {"refine": False})
    assert min(found["fit_s"], found["texts_per_s"], found["peak_mb"]) > 0


def test_a_method_that_fails_says_why(load, tmp_path):
    with pytest.raises(RuntimeError, match=r"bert failed:\n(.|\n)*KeyError: 'bert'"):
        load("full_label").ask("bert", tmp_path)
