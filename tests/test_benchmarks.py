"""Benchmarks: the arithmetic of the harness; both sides of a meta-step do the same mathematics. No timing."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WORDS

from fewtext import LabeledTexts

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"
FILES = sorted(FOLDER.glob("*.py"))
TOLERANCE = 1e-4  # either side is 1e-5 from float64 on this encoder of large random weights; on MiniLM it is 1e-6
SIDES = """
from harness import Benchmark, Side, per_second, serve

def steady(folder):
    print("a library talks")
    return Side(lambda: {"amount": 6, "cpu_s": 2.0}, lambda: {"accuracy": 0.5})

def broken(folder):
    raise ValueError("no such encoder")

if __name__ == "__main__":
    serve(globals())
"""


@pytest.fixture
def load(monkeypatch):
    """Import a file of benchmarks as its driver does: from its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER), prepend=os.pathsep)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


@pytest.fixture
def benchmark(load, tmp_path):
    """Return a benchmark of two sides that take no time; keyword arguments change it."""
    (tmp_path / "own_sides.py").write_text(SIDES, "utf-8")
    sys.path.insert(0, str(tmp_path))
    sides = load("own_sides")

    def make(**changes):
        harness = load("harness")
        plain = {
            "name": "row",
            "ours": sides.steady,
            "peer": sides.steady,
            "against": "itself",
            "unit": "texts/s",
            "target": 1.0,
            "prepare": lambda folder, material: None,
            "value": harness.per_second,
            "more_is_better": True,
        }
        return harness.Benchmark(**(plain | changes))

    yield make
    sys.path.remove(str(tmp_path))
    del sys.modules["own_sides"]


@pytest.fixture
def material(load, tiny_folder):
    """Eight classes of sixteen different texts for the tiny encoder."""
    texts = [f"{WORDS[n % 40]} {WORDS[(7 * n + 3) % 40]} {WORDS[n // 16]} " + "to " * (n % 5) for n in range(128)]
    rows = LabeledTexts.of(texts, [f"class_{n // 16}" for n in range(128)], name="toy")
    return load("material").Material(tiny_folder, rows, rows, quick=True)


def test_a_ratio_is_between_trials_of_the_same_turn_and_larger_is_better(load):
    ratios = load("harness").paired_ratios
    assert ratios([30, 10], [10, 20], more_is_better=True) == [3, 0.5]
    assert ratios([30, 10], [10, 20], more_is_better=False) == [1 / 3, 2]
    assert ratios([1, 2, 4], [8], more_is_better=False) == [8, 4, 2]  # a slow peer runs once


def test_a_row_has_medians_the_range_of_ratios_and_both_sides_facts(load, benchmark):
    trials = [{"amount": n, "cpu_s": 1} for n in (3, 1, 2)]
    row = load("harness").summary(benchmark(), trials, trials[::-1], {"ours": {"x": 1}, "peer": {"x": 2}})
    assert (row["value"], row["peer_value"], row["n"]) == (2, 2, 3)
    assert (row["ratio"], row["ratio_range"]) == (1, [2 / 3, 3 / 2])
    assert (row["x"], row["peer_x"]) == (1, 2)


@pytest.mark.parametrize("fresh", [False, True])
def test_sides_are_processes_that_take_turns(load, benchmark, tmp_path, fresh):
    said = []
    value = {"value": lambda ready: ready["wall_s"]} if fresh else {}
    row = load("harness").measure(benchmark(fresh=fresh, **value), tmp_path, 2, 1, said.append)
    assert [line.split()[1] for line in said] == ["ours", "peer", "ours", "peer"]
    assert row["accuracy"] == row["peer_accuracy"] == 0.5
    assert 0 < row["peak_mb"] < 200  # of its own process, not of this one
    assert row["value"] == 3 or fresh


def test_a_slow_peer_is_run_less_often(load, benchmark, tmp_path):
    row = load("harness").measure(benchmark(slow_peer=True), tmp_path, 3, 1, lambda message: None)
    assert (len(row["trials"]), len(row["peer_trials"])) == (3, 1)


def test_a_side_that_fails_says_why(load, benchmark, tmp_path):
    broken = benchmark(peer=sys.modules["own_sides"].broken)
    with pytest.raises(RuntimeError, match="no such encoder"):
        load("harness").measure(broken, tmp_path, 1, 1, lambda message: None)


@pytest.mark.parametrize("lora", [{"targets": ("query", "value")}, {"targets": ("query", "value"), "from_layer": 1}])
def test_the_sequential_inner_loop_has_our_meta_gradient(load, material, tmp_path, lora):
    episodes, inner_loop = load("episodes"), load("inner_loop")
    episodes.prepare(tmp_path, material, **lora)
    for side in (inner_loop.ours, inner_loop.sequential):
        side(tmp_path).finish()
    assert episodes.compare(tmp_path)["gradient_difference"] < TOLERANCE


def test_the_padded_prototypical_step_has_our_gradient(load, material, tmp_path):
    episodes, prototypical_step = load("episodes"), load("prototypical_step")
    episodes.prepare(tmp_path, material)
    for side in (prototypical_step.ours, prototypical_step.one_padded_batch):
        side(tmp_path).finish()
    assert episodes.compare(tmp_path)["gradient_difference"] < TOLERANCE


def test_every_row_has_a_benchmark(load):
    report, speed = load("report"), load("speed")
    assert set(report.ROWS) == set(speed.BENCHMARKS)


def test_rows_are_kept_by_name_and_dropped_with_other_versions(load, tmp_path):
    report, file = load("report"), tmp_path / "speed.json"
    row = {"name": "fit_plain", "value": 1.0, "peer_value": 90.0, "unit": "s", "peer": "SetFit", "target": 100.0}
    row |= {"ratio": 90.0, "ratio_range": [80.0, 95.0], "accuracy": 0.8}
    report.keep(file, [row])
    kept = report.keep(file, [row | {"name": "encode_fp32"}, row | {"value": 0.5}])
    assert [(each["name"], each.get("value")) for each in kept] == [
        ("encode_fp32", 1.0),
        ("fit_plain", 0.5),
    ]
    assert "| fit_plain | 0.5 s | 90, SetFit | 90.00 (80.00–95.00) | 100.00 | accuracy 80.0% |" in report.table(kept)
    saved = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(saved | {"versions": {}}), "utf-8")
    assert [each["name"] for each in report.keep(file, [row])] == ["fit_plain"]


def test_the_table_of_the_readme_is_replaced(load, tmp_path):
    report, readme = load("report"), tmp_path / "README.md"
    readme.write_text((FOLDER / "README.md").read_text("utf-8"), "utf-8")
    for text in ("first", "second"):
        report.put_table(readme, text, "speed.py")
    written = readme.read_text("utf-8")
    assert "<!-- begin: made by speed.py -->\nsecond\n<!-- end: made by speed.py -->" in written
    assert written.count("made by parts.py") == 2


def test_every_operation_is_a_part(load):
    part_of = load("parts").part_of
    assert [part_of(name) for name in ("mkldnn::_linear_pointwise", "aten::_softmax", "aten::gelu", "aten::add")] == [
        "products",
        "attention",
        "GELU",
        "other operations",
    ]


def test_made_up_texts_are_different_and_as_long_as_their_models(load):
    texts = load("made_up").made_up_texts(["where is it", "card"], 50)
    assert len(set(texts)) == 50
    assert {len(text.split()) for text in texts} == {2, 4}  # a number makes each its own


def test_without_the_data_the_rows_say_which_corpus_they_are_measured_on(load, monkeypatch, capsys):
    monkeypatch.delenv("FEWTEXT_DATA_ROOT", raising=False)
    found = load("material").load_material("banking77", None, quick=True)
    assert found.train.name == "everyday"
    assert not set(found.train.texts) & set(found.test.texts)
    assert "banking77 is not here" in capsys.readouterr().err


def test_the_driver_explains_itself():
    done = subprocess.run([sys.executable, str(FOLDER / "speed.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--data-root" in done.stdout


@pytest.mark.parametrize("name", ["gpu", "parts", "scaling"])
def test_the_other_programs_say_how_they_are_run(load, name):
    assert f"python recipes/benchmarks/{name}.py" in load(name).__doc__
    assert load(name).main.__doc__


def test_without_a_gpu_nothing_is_said_to_be_measured(load, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    load("gpu").main(out=tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert (found["rows"], found["note"]) == ([], "not measured")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_side_imports_nothing_heavy_before_it_is_set_up(path):
    """What a side imports counts as its own, so a file of sides itself imports the standard library only."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 250
    if "serve(globals())" in text:
        top = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {path.stem for path in FILES}
