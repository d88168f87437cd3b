"""The benchmarks of refining and of wrong labels: what they are made of, and the arithmetic of their reports."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fewtext import Encoder, EpisodeSampler, EpisodeSpec

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a file of benchmarks as its driver does: from its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in ("refining", "wrong_labels", "report", "full_label", "full_label_report", "rivals", "harness"):
        sys.modules.pop(name, None)


def run(seed, plain, refined, kept):
    return {"seed": seed, "set": "toy", "shots": 5, "plain": plain, "refined": refined, "kept": kept}


def test_auto_has_what_it_kept(load):
    refining = load("refining")
    runs = [run(0, 0.6, 0.7, True), run(1, 0.6, 0.64, False)]
    rows = {row.name: row.value for row in refining.rows_of(runs)}
    assert rows["toy/5-shot/plain"] == pytest.approx(0.6)
    assert rows["toy/5-shot/refined − plain"] == pytest.approx(7.0)
    assert rows["toy/5-shot/auto − plain"] == pytest.approx(5.0)
    assert rows["toy/5-shot/kept by auto"] == 0.5
    assert refining.text_of(runs).splitlines()[-1] == "| toy | +7.0 ± 38.1 (+5.0, 1 of 2) |"


def test_a_run_of_refining_is_kept_and_not_run_again(load, tiny_folder, toy, tmp_path, monkeypatch):
    refining, file = load("refining"), tmp_path / "refining_runs.jsonl"
    found = refining.measure(Encoder.from_pretrained(tiny_folder), toy, toy, 1, 0)
    assert found["kept"]
    assert {0 <= found[name] <= 1 for name in ("plain", "refined")} == {True}
    file.write_text(json.dumps({"seed": 0, "set": "toy", "shots": 1} | found) + "\n", "utf-8")
    monkeypatch.setattr(refining, "measure", lambda *_: pytest.fail("it was run again"))
    refining.main(sets=("toy",), shots=(1,), seeds=1, runs=file)
    assert "toy/1-shot/plain" in file.with_name("refining.json").read_text("utf-8")


def test_one_text_of_each_class_is_said_to_be_of_another(load, toy):
    wrong_labels = load("wrong_labels")
    episode = EpisodeSampler(toy, EpisodeSpec(wrong_labels.WAYS, wrong_labels.SHOTS, 1))[0]
    wrong = wrong_labels.mislabelled(episode)
    true = toy.labels[wrong.support] == episode.classes[wrong.support_labels]
    assert true.reshape(5, 5).sum(axis=1).tolist() == [4] * 5
    assert sorted(wrong.support) == sorted(episode.support)


def test_what_doubting_labels_gains_is_paired(load):
    plain, own = np.array([0.5, 0.6, 0.7]), np.array([0.6, 0.7, 0.8])
    rows = {row.name: row for row in load("wrong_labels").rows_of("toy", {0.0: plain, 0.02: own})}
    assert rows["toy/plain"].value == pytest.approx(0.6)
    assert rows["toy/label_noise=0.02 − plain"].value == pytest.approx(10.0)
    assert rows["toy/label_noise=0.02 − plain"].ci95 == pytest.approx(0.0, abs=1e-9)
