"""Which source helps: the report's arithmetic, and that the package expects what was measured."""

import importlib
import sys
from pathlib import Path

import pytest

from fewtext import similarity

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("transfer")
    for name in ("transfer", "report"):
        sys.modules.pop(name, None)


def pair(source, target, nearness, gain, part="test"):
    return {"source": source, "target": target, "part": part, "nearness": nearness, "gain": gain, "ci95": 0.5}


RUNS = [pair("a", "a", 0.6, 2.0), pair("b", "a", 0.2, -1.0), pair("a", "b", 0.3, 0.9), pair("b", "b", 0.5, 0.2)]


def test_what_the_package_expects_is_what_was_measured_on_validation_classes(benchmark):
    runs = benchmark.read(benchmark.RUNS)
    measured = benchmark.predictor([run for run in runs if run["part"] == "validation"])
    assert (similarity.AT_ZERO, similarity.BY_NEARNESS, similarity.SPREAD) == pytest.approx(measured, abs=0.005)
    near = [run for run in runs if run["part"] == "validation" and run["nearness"] >= similarity.NEAR]
    assert near
    assert not any(run["gain"] < -run["ci95"] for run in near)


def test_the_nearest_source_is_compared_with_the_best_and_with_any(benchmark):
    rows = {row.name: row.value for row in benchmark.rows_of(RUNS)}
    assert rows["all sources/test/nearest"] == pytest.approx((2.0 + 0.2) / 2)
    assert rows["all sources/test/best"] == pytest.approx((2.0 + 0.9) / 2)
    assert rows["all sources/test/any"] == pytest.approx((2.0 - 1.0 + 0.9 + 0.2) / 4)
    assert rows["all sources/test/rank correlation of nearness and gain"] == pytest.approx(0.8)
    assert rows["all sources/test/nearness from 0.45/certainly better"] == 1
    assert rows["all sources/test/nearness below 0.45/certainly worse"] == 1
    assert rows["all sources/test/gain as expected"] == 1
    assert rows["sources of other collections/test/nearest"] == pytest.approx((-1.0 + 0.9) / 2)


def test_parts_of_one_collection_are_akin(benchmark):
    assert benchmark.akin(pair("liu54", "hwu64", 0.5, 1.0))
    assert benchmark.akin(pair("everyday", "everyday", 0.5, 1.0))
    assert not benchmark.akin(pair("everyday", "hwu64", 0.5, 1.0))


def test_the_table_has_targets_in_rows_and_marks_the_nearest_source(benchmark):
    *_, second = benchmark.text_of(RUNS).splitlines()
    assert second == "| b | +0.9 ± 0.5 (0.30) | **+0.2 ± 0.5 (0.50)** |"


def test_the_line_is_a_least_squares_fit(benchmark):
    pairs = [pair("a", "b", x, 1 + 2 * x + off) for x in (0.1, 0.5, 0.9) for off in (-1, 1)]
    assert benchmark.predictor(pairs) == pytest.approx((1.0, 2.0, 1.0))
