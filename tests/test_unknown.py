"""Unknown texts, measured: what is drawn, what is counted, and that it is what the classifier answers. No SetFit."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fewtext import FewShotClassifier, LabeledTexts, load_texts

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a file of benchmarks as its driver does: from its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


@pytest.fixture
def official():
    """Six classes with official rows, whose out-of-scope training texts are in part test texts, too."""
    parts = {"train": 9, "validation": 3, "test": 2}
    inside = [(f"{part} {n} of {own}", own, part) for part in parts for own in "abcdef" for n in range(parts[part])]
    outside = [("stray", "oos", "train"), ("odd", "oos", "train"), ("odd", "oos", "test")]
    texts, labels, partition = zip(*inside, *outside, strict=True)
    return LabeledTexts.of(texts, labels, out_of_scope_label="oos", partition=partition, name="toy")


@pytest.fixture
def few():
    """Some classes of the embedded corpus, and its out-of-scope texts."""
    texts = load_texts("everyday")
    return texts.only(texts.classes[::6])


def run(method="fewtext", seed=0, **changes):
    """Return a made-up run."""
    plain = {"seed": seed, "set": "toy", "kind": "held-out-classes", "shots": 5, "method": method}
    plain |= {"auroc": 0.8, "rejected_95": 0.5, "accuracy": 0.75, "ece": 0.02, "brier": 0.3}
    return plain | changes


def test_out_of_scope_texts_are_those_of_the_test_rows_and_no_hint_is_one(load, official):
    task = load("unknown").task_of(official, "out-of-scope-texts", 2, 0)
    assert (task.unknown, task.hints) == (("odd",), ("stray",))
    assert (len(task.support), len(task.calibration), len(task.test)) == (12, 18, 12)
    assert all(text.startswith("validation") for text in task.calibration.texts)
    assert task.asked == (*task.test.texts, "odd")


def test_a_third_of_the_classes_is_held_out_anew_with_each_seed(load, official):
    drawn = [load("unknown").task_of(official, "held-out-classes", 2, seed) for seed in range(4)]
    for task in drawn:
        assert task.support.classes == task.test.classes == task.calibration.classes
        assert len(task.support.classes) == 4
        assert {text[-1] for text in task.unknown} == set("abcdef") - set(task.support.classes)
        assert not task.hints
    assert len({task.support.classes for task in drawn}) > 1
    assert load("unknown").task_of(official, "held-out-classes", 2, 3).asked == drawn[3].asked


def test_without_official_rows_no_text_is_used_twice(load):
    task = load("unknown").task_of(load_texts("everyday"), "held-out-classes", 5, 0)
    parts = [task.support.texts, task.calibration.texts, task.test.texts, task.unknown]
    assert len(set().union(*parts)) == sum(map(len, parts))


def test_measures_are_those_of_their_definition(load):
    report = load("unknown_report")
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3], [0.45, 0.55]])
    answers = report.Answers(chances, np.array([3.0, 2.0, 1.0, 1.5, 0.0]), threshold=1.8, temperature=0.5)
    found = report.measured(answers, np.array([0, 0, 0]))  # the last two texts are unknown
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["auroc"] == pytest.approx(5 / 6)
    assert found["auroc_max"] == pytest.approx(4 / 6 + 1 / 6)
    assert (found["accepted"], found["accepted_right"]) == pytest.approx((2 / 3, 1 / 3))
    assert (found["rejected"], found["rejected_95"], found["rejected_95_max"]) == (1, 0.5, 0.5)
    assert found["brier"] == pytest.approx((0.02 + 1.28 + 0.32) / 3)
    assert found["brier_before"] == pytest.approx((2 * 0.25**2 + 2 * (2 / 3) ** 2 + 2 * 0.4495**2) / 3, abs=1e-4)
    plain = report.measured(report.Answers.plain(chances), np.array([0, 0, 0]))
    assert plain["auroc"] == found["auroc_max"]
    assert not {"accepted", "rejected", "ece_before"} & plain.keys()


def test_what_is_measured_is_what_the_classifier_answers(load, few, minilm):
    task = load("unknown").task_of(few, "out-of-scope-texts", 3, 0)
    found = load("unknown").fewtext(task, minilm)
    labels, right = ([part.classes[n] for n in part.labels] for part in (task.support, task.test))
    classifier = FewShotClassifier(minilm).fit(task.support.texts, labels)
    assert np.allclose(found.probabilities, classifier.predict_proba(task.asked), atol=1e-5)
    known = [answer.label is not None for answer in classifier.classify(task.asked)]
    assert (found.scores >= found.threshold).tolist() == known
    assert len(set(known)) == 2
    classifier.calibrate(task.calibration.texts, [task.calibration.classes[n] for n in task.calibration.labels], 0.9)
    sets = classifier.predict_set(task.test.texts)
    assert found.sets["size_90"] == pytest.approx(np.mean([len(each) for each in sets]))
    assert found.sets["covered_90"] == pytest.approx(
        np.mean([own in each for own, each in zip(right, sets, strict=True)])
    )


def test_hints_set_the_threshold_and_nothing_else(load, few, minilm):
    task = load("unknown").task_of(few, "held-out-classes", 3, 0)
    plain, hinted = (load("unknown").fewtext(task, minilm, hints=hints) for hints in ((), task.unknown[:10]))
    assert (plain.probabilities == hinted.probabilities).all()
    assert plain.threshold != hinted.threshold


def test_runs_are_kept_and_reported(load, few, monkeypatch, tmp_path):
    unknown, runs = load("unknown"), tmp_path / "results" / "runs.jsonl"
    monkeypatch.setattr(unknown, "load_texts", lambda name, data_root: few)
    given = {"sets": ("everyday",), "shots": (2,), "runs": runs, "answers": tmp_path / "answers"}
    given |= {"kinds": ("held-out-classes",), "seeds": 1, "methods": ("fewtext", "frozen-logistic-regression-names")}
    unknown.main(**given)
    before = runs.read_bytes()
    unknown.main(**given)
    assert runs.read_bytes() == before
    found = json.loads((runs.parent / "unknown.json").read_text("utf-8"))
    rows = {row["name"]: row for row in found["rows"]}
    place = "everyday/2-shot/held-out-classes"
    assert 0.5 < rows[f"{place}/frozen-logistic-regression-names, AUROC"]["value"] < 1
    assert rows[f"{place}/fewtext − frozen-logistic-regression-names, AUROC"]["n"] == 1
    for name in ("coverage", "reliability"):
        picture = runs.parent / f"unknown_{name}.png"
        assert picture.stat().st_size > 20_000
        picture.unlink()
    unknown.main(runs=runs, answers=tmp_path / "nowhere", report_only=True)
    assert not list(runs.parent.glob("*.png"))


def test_slow_methods_have_one_seed_and_hints_need_out_of_scope_texts(load, monkeypatch, official, tmp_path):
    unknown, seen = load("unknown"), []
    monkeypatch.setattr(unknown, "load_texts", lambda name, data_root: official)

    def method(name):
        def asked(task, encoder):
            seen.append((name, task.seed, len(task.unknown)))
            return unknown.Answers.plain(np.eye(len(task.support.classes))[np.arange(len(task.asked)) % 4])

        return asked

    hinted = method("hinted")
    monkeypatch.setattr(unknown, "fewtext_hints", hinted)
    names = {"fewtext": method("plain"), "fewtext-50-out-of-scope": hinted, "setfit": method("slow")}
    monkeypatch.setattr(unknown, "METHODS", names)
    unknown.main(
        sets=("toy",), shots=(2,), seeds=2, methods=tuple(names), runs=tmp_path / "r.jsonl", answers=tmp_path
    )
    own, near = [("plain", 0, 1), ("hinted", 0, 1), ("slow", 0, 1)], [("plain", 0, 4), ("slow", 0, 4)]
    assert seen == [*own, *near, ("plain", 1, 1), ("hinted", 1, 1), ("plain", 1, 4)]


def test_a_difference_is_paired_and_a_single_seed_has_no_interval(load):
    report = load("unknown_report")
    ours = [run(seed=seed, auroc=share, auroc_max=0.7) for seed, share in enumerate((0.80, 0.90, 0.99))]
    cells = report.cells_of([run("setfit", 1, auroc=0.85), run("setfit", 0, auroc=0.77), *ours])
    rows = {row.name: row for row in report.rows_of(cells)}
    place = "toy/5-shot/held-out-classes"
    row = rows[f"{place}/fewtext − setfit, AUROC"]
    assert (row.n, row.value) == (2, pytest.approx(4))
    assert row.ci95 == pytest.approx(12.706, abs=0.01)
    text = report.text_of(report.cells_of([run(auroc_max=0.7, size_90=1.5), run("setfit", brier=0.25)]))
    assert f"| **{place}/fewtext** | 80.0 (70.0) | 50.0 |  |  | 75.0 | 2.0 | 0.30 | 1 |" in text
    assert f"| {place}/setfit | 80.0 | 50.0 |  |  | 75.0 | 2.0 | 0.25 | 1 |" in text
    assert f"| **{place}/fewtext** |  | 1.50 |  |  | 1 |" in text
    assert text.count(f"{place}/setfit") == 1
    assert f"| {place}/fewtext − setfit, AUROC | +0.0 | 1 |" in text
