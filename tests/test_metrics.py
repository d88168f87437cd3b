"""Every score equals a hand-computed number, and its `evaluate` module gives the same."""

import math
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import fewtext.metrics
from fewtext.metrics.calibration_error.calibration_error import CalibrationError
from fewtext.metrics.episode_accuracy.episode_accuracy import EpisodeAccuracy
from fewtext.metrics.macro_f1.macro_f1 import MacroF1
from fewtext.metrics.scores import accuracy, brier_score, calibration_error, macro_f1, mean_ci

FOLDER = Path(fewtext.metrics.__file__).parent
GUESSES, TRUTH = np.array([0, 1, 2, 2, 1, 0, 1, 3]), np.array([0, 1, 1, 2, 2, 0, 1, 0])
PROBABILITIES = np.array([[0.9, 0.1], [0.91, 0.09], [0.2, 0.8], [0.5, 0.5]])
MODULES = {
    "calibration_error": (
        CalibrationError,
        {"predictions": PROBABILITIES, "references": [0, 1, 1, 0]},
        {"calibration_error": calibration_error(PROBABILITIES, np.array([0, 1, 1, 0]))},
    ),
    "episode_accuracy": (
        EpisodeAccuracy,
        {"predictions": [1, 0, 1, 1, 0], "references": [1, 1, 1, 1, 0], "episodes": [3, 7, 3, 7, 7]},
        {"accuracy": 5 / 6, "ci95": mean_ci([1, 2 / 3])[1], "episodes": 2},
    ),
    "macro_f1": (
        MacroF1,
        {"predictions": GUESSES, "references": TRUTH},
        {"macro_f1": macro_f1(GUESSES, TRUTH)},
    ),
}


@pytest.fixture
def own_modules(monkeypatch, tmp_path):
    """Copies of metric modules and their intermediate files go to this test's folder."""
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "metrics"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path / "modules"
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


def test_accuracy_is_the_share_of_right_answers():
    assert accuracy([1, 2, 3, 4], [1, 2, 3, 5]) == 0.75
    assert accuracy(GUESSES, TRUTH) == accuracy_score(TRUTH, GUESSES)


def test_macro_f1_by_hand():
    assert macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_macro_f1_equals_scikit_learn_over_the_classes_of_the_references():
    assert macro_f1(GUESSES, TRUTH) == pytest.approx(f1_score(TRUTH, GUESSES, labels=[0, 1, 2], average="macro"))


def test_a_class_that_is_never_predicted_counts_as_zero():
    assert macro_f1(np.array([0, 0]), np.array([0, 1])) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("half", "errors"), [(1, 12.7062), (2, 3.1824), (5, 2.2622), (500, 1.9623)])
def test_the_interval_is_as_many_standard_errors_as_the_table_of_student_s_t_says(half, errors):
    mean, half_width = mean_ci([0.0, 1.0] * half)
    assert mean == 0.5
    assert half_width == pytest.approx(errors * 0.5 / math.sqrt(2 * half - 1), rel=1e-4)


def test_a_single_value_has_no_interval():
    mean, half_width = mean_ci([0.25])
    assert mean == 0.25
    assert math.isnan(half_width)


@pytest.mark.parametrize(
    ("probabilities", "references", "error"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1], 0.0),
        ([[1.0, 0.0], [0.0, 1.0]], [1, 0], 1.0),
        ([[0.9, 0.1], [0.8, 0.2]], [0, 1], (0.1 + 0.8) / 2),
        ([[0.9, 0.1], [0.91, 0.09]], [0, 1], 0.905 - 0.5),
        ([[1.0, 0.0], [0.95, 0.05]], [1, 0], 0.975 - 0.5),
        ([[0.9, 0.1], [0.91, 0.09], [0.7, 0.3]], [0, 1, 0], (2 * 0.405 + 0.3) / 3),
    ],
)
def test_calibration_error_by_hand(probabilities, references, error):
    assert calibration_error(np.array(probabilities), np.array(references)) == pytest.approx(error)


def test_calibration_error_with_one_bin_is_confidence_minus_accuracy():
    probabilities, references = np.array([[0.6, 0.4], [0.9, 0.1]]), np.array([1, 0])
    assert calibration_error(probabilities, references, bins=1) == pytest.approx(0.25)
    assert calibration_error(probabilities, references, bins=2) == pytest.approx(0.25)
    assert calibration_error(probabilities, references, bins=10) == pytest.approx((0.6 + 0.1) / 2)


@pytest.mark.parametrize(
    ("probabilities", "references", "score"),
    [([[1, 0], [0, 1]], [0, 1], 0), ([[1, 0]], [1], 2), ([[0.5, 0.3, 0.2], [1, 0, 0]], [1, 0], 0.78 / 2)],
)
def test_brier_score_by_hand(probabilities, references, score):
    assert brier_score(probabilities, references) == pytest.approx(score)


def test_every_metric_folder_is_listed_here_and_holds_a_file_of_its_name():
    assert sorted(path.parent.name for path in FOLDER.glob("*/__init__.py")) == sorted(MODULES)
    assert all((FOLDER / name / f"{name}.py").is_file() for name in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_metric_works_as_a_class(name, tmp_path):
    metric, inputs, expected = MODULES[name]
    assert metric(cache_dir=str(tmp_path)).compute(**inputs) == pytest.approx(expected)


@pytest.mark.parametrize("name", MODULES)
def test_a_metric_loads_from_its_folder_without_a_network(name, own_modules):
    _, inputs, expected = MODULES[name]
    metric = evaluate.load(str(FOLDER / name))
    assert metric.compute(**inputs) == pytest.approx(expected)
    assert list(own_modules.rglob(f"{name}.py"))


def test_a_metric_may_be_fed_batch_by_batch(tmp_path):
    metric = EpisodeAccuracy(cache_dir=str(tmp_path))
    metric.add_batch(predictions=[1, 0], references=[1, 1], episodes=[0, 0])
    metric.add_batch(predictions=[1, 1], references=[1, 1], episodes=[1, 1])
    assert metric.compute() == pytest.approx({"accuracy": 0.75, "ci95": 12.7062 * 0.25, "episodes": 2})


def test_episodes_count_the_same_whatever_their_size(tmp_path):
    columns = {"predictions": [0, 0, 0, 1], "references": [0, 0, 0, 0], "episodes": [0, 0, 0, 1]}
    assert EpisodeAccuracy(cache_dir=str(tmp_path)).compute(**columns)["accuracy"] == 0.5
