"""What to label next: crowds before odd texts, doubt before certainty, nothing twice; and the labels this saves."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import fewtext.suggest
from fewtext import load_texts
from fewtext.classifier.suggesting import Candidate
from fewtext.errors import DataError, LearnerError
from fewtext.suggest import suggest

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"
SIZES = (40, 30, 20)  # of the crowds; two odd texts follow
FIRST, SECOND, THIRD = range(40), range(40, 70), range(70, 90)
SURE, TORN = [0.98, 0.01, 0.01], [0.45, 0.44, 0.11]
EVEN = np.full((92, 3), 1 / 3)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors():
    """Three crowds, around axes of their own, and two texts that are like no other."""
    axes = np.eye(24)[[0] * 40 + [1] * 30 + [2] * 20 + [3, 4]]
    return unit(axes + 0.1 * np.random.default_rng(0).normal(size=axes.shape))


@pytest.fixture
def nothing(vectors):
    """No labelled text."""
    return np.zeros((0, vectors.shape[1]), np.float32)


def test_crowds_come_before_odd_texts_and_large_ones_first(vectors, nothing):
    chosen = [each.row for each in suggest(vectors, EVEN, nothing, 5)]
    assert [row in crowd for row, crowd in zip(chosen[:3], (FIRST, SECOND, THIRD), strict=True)] == [True] * 3


def test_what_is_labelled_already_is_covered(vectors):
    assert suggest(vectors, EVEN, vectors[:1], 1)[0].row in SECOND
    assert suggest(vectors, EVEN, vectors[[0, 40]], 1)[0].row in THIRD


def test_doubt_outweighs_numbers_except_for_coverage(vectors, nothing):
    probabilities = np.array([SURE] * 70 + [TORN] * 20 + [SURE] * 2)
    first = {
        each: suggest(vectors, probabilities, nothing, 1, strategy=each)[0].row for each in ("mixed", "coverage")
    }
    assert first["mixed"] in THIRD
    assert first["coverage"] in FIRST


def test_margin_chooses_among_the_most_doubtful_only(vectors, nothing):
    probabilities = np.array([[0.6, 0.3, 0.1]] * 40 + [[0.5, 0.3, 0.2]] * 30 + [TORN] * 20 + [SURE] * 2)
    found = suggest(vectors, probabilities, nothing, 2, strategy="margin")
    assert all(each.row in THIRD for each in found)
    assert {(each.reason, each.between) for each in found} == {("margin", (0, 1))}


def test_where_texts_may_have_several_classes_one_that_surely_has_two_is_in_no_doubt(vectors):
    probabilities = np.array([[0.98, 0.97, 0.01]] * 40 + [[0.01, 0.01, 0.01]] * 30 + [[0.02, 0.01, 0.45]] * 22)
    labelled = vectors[[0, 40, 70]]
    found = suggest(vectors, probabilities, labelled, 1, strategy="mixed", several=True)
    assert [(own.row in THIRD, own.reason, own.between) for own in found] == [(True, "margin", (2,))]
    assert suggest(vectors, probabilities, labelled, 1, strategy="mixed")[0].row not in THIRD
    assert str(Candidate("pay it", 0, "margin", ("bill",), 0.5)) == "pay it  [margin: bill?]"


def test_the_reason_says_what_a_text_is(vectors):
    near = unit(vectors[SECOND].mean(axis=0, keepdims=True) + 0.02)
    probabilities = np.array([TORN] * 40 + [[0.2, 0.45, 0.35]] * 52)
    found = {each.row: each for each in suggest(vectors, probabilities, near, 92)}
    assert {found[row].reason for row in FIRST if row in found} == {"unknown"}  # a crowd of its own, without a label
    assert {found[row].reason for row in SECOND if row in found} == {"margin"}
    assert {found[row].between for row in SECOND if row in found} == {(1, 2)}
    assert {found[row].reason for row in (90, 91)} == {"margin"}  # odd, but in no crowd
    for chances in ([0.8, 0.15, 0.05], [0.2] * 5):  # sure of one class, or of none
        others = {each.row: each for each in suggest(vectors, np.tile(chances, (92, 1)), near, 92)}
        assert {others[row].reason for row in SECOND if row in others} == {"coverage"}


def test_unknown_asks_for_crowds_without_a_label(vectors):
    found = suggest(vectors, EVEN, vectors[[0, 70]], 3, strategy="unknown")
    assert found[0].row in SECOND
    assert {each.reason for each in found} == {"unknown"}
    assert not {90, 91} & {each.row for each in found}


def test_duplicates_are_not_suggested_twice(vectors, nothing):
    twice = np.concatenate([vectors, vectors])
    found = [each.row for each in suggest(twice, np.concatenate([EVEN, EVEN]), nothing, 200)]
    assert len(found) == len({row % 92 for row in found})
    alike = twice[found] @ twice[found].T
    np.fill_diagonal(alike, 0)
    assert alike.max() < 0.95
    assert suggest(vectors, EVEN, vectors, 5) == []  # all are labelled
    assert len(suggest(vectors, EVEN, nothing, 200, duplicate=1.1)) == 92


def test_each_text_adds_most_and_its_score_is_the_share_it_adds(vectors):
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), 92)
    top = np.sort(probabilities, axis=1)
    doubt, alike = 1 - (top[:, 2] - top[:, 1]), vectors @ vectors.T
    reached = np.maximum(alike[:, :2].max(axis=1), 0)
    whole = doubt @ (1 - reached)
    for each in suggest(vectors, probabilities, vectors[:2], 20):
        gains = doubt @ (np.maximum(reached[:, None], alike) - reached[:, None]) / whole
        assert each.score == pytest.approx(gains[each.row], abs=1e-5)
        assert each.score == pytest.approx(gains.max(), abs=1e-5)
        reached = np.maximum(reached, alike[each.row])


@pytest.mark.parametrize("strategy", ["mixed", "margin", "coverage"])
def test_before_anything_is_labelled_every_text_is_in_doubt(vectors, nothing, strategy):
    found = suggest(vectors, np.zeros((92, 0)), nothing, 3, strategy=strategy)
    assert {each.row in FIRST for each in found[:1]} == {True}
    assert {each.between for each in found} == {None}


def test_of_many_texts_a_random_choice_is_looked_at_and_blocks_change_nothing(vectors, nothing, monkeypatch):
    whole = suggest(vectors, EVEN, nothing, 10)
    monkeypatch.setattr(fewtext.suggest, "BLOCK", 7)
    blocks = suggest(vectors, EVEN, nothing, 10)
    assert [each.row for each in whole] == [each.row for each in blocks]
    monkeypatch.setattr(fewtext.suggest, "MOST", 40)
    found = [suggest(vectors, EVEN, nothing, 40, seed=seed, duplicate=2.0) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert {len({each.row for each in one}) for one in found} == {40}
    assert {each.row for each in found[0]} != {each.row for each in found[2]}


def test_no_text_at_all_is_no_suggestion(nothing):
    assert suggest(nothing, np.zeros((0, 3)), nothing, 3) == []


def test_what_does_not_fit_is_refused(vectors, nothing):
    with pytest.raises(DataError, match=r"\(92, 24\), \(91, 3\), \(0, 24\)"):
        suggest(vectors, EVEN[1:], nothing, 3)
    with pytest.raises(DataError, match=r"\[m, D\]"):
        suggest(vectors, EVEN, nothing[:, 1:], 3)
    with pytest.raises(LearnerError, match=r"'random'.*'mixed'"):
        suggest(vectors, EVEN, nothing, 3, strategy="random")  # pyright: ignore[reportArgumentType]
    with pytest.raises(LearnerError, match="at least 1"):
        suggest(vectors, EVEN, nothing, 0)


def test_texts_of_unseen_intents_are_found(minilm):
    texts = load_texts("everyday")
    texts = texts.only(texts.classes[:24])
    known = np.arange(24) < 12
    vectors = unit(minilm.encode(texts.texts))
    labelled = np.concatenate([np.flatnonzero(texts.labels == label)[:5] for label in np.flatnonzero(known)])
    rest = np.setdiff1d(np.arange(len(texts)), labelled)
    means = unit(np.stack([vectors[labelled][texts.labels[labelled] == label].mean(axis=0) for label in range(12)]))
    logits = 20 * vectors[rest] @ means.T
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = suggest(vectors[rest], probabilities, vectors[labelled], 12, strategy="unknown")
    unseen = ~known[texts.labels[rest]]
    assert unseen[[each.row for each in found]].mean() > unseen.mean() + 0.15


@pytest.fixture
def labelling(monkeypatch):
    """The experiment, imported as its driver does."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module("labelling")
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def test_the_experiment_runs_and_goes_on_where_it_was(labelling, tiny_folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "labelling.json"
    labelling.main(quick=True, strategies=("random", "mixed"), base=str(tiny_folder), out=out)
    rows = {row["name"]: row for row in json.loads(out.read_text("utf-8"))["rows"]}
    row = rows["everyday, half of the classes known/3-per-class/suggest-mixed − random"]
    assert (row["unit"], row["n"]) == ("points", 2)
    assert "everyday, all classes known/2-per-class" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000
    lines = out.with_suffix(".jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 8
    out.with_suffix(".jsonl").write_text("\n".join(lines[:-1]) + "\n", "utf-8")
    made = []
    monkeypatch.setattr(labelling, "curve", lambda *given, half: made.append(given[1]) or [[0.5, 8]] * 3)
    labelling.main(quick=True, strategies=("random", "mixed"), base=str(tiny_folder), out=out)
    assert made == ["mixed"]


def test_labels_needed_are_read_off_the_curves_and_paired(labelling):
    random = np.stack([np.linspace(0.50, 0.95, 10), np.linspace(0.52, 0.97, 10)])  # 5 points a round
    twice = np.stack([np.linspace(0.50, 1.40, 10), np.linspace(0.52, 1.42, 10)])
    never = np.full((2, 10), 0.4)
    curves = {"random": random, "suggest-mixed": twice, "suggest-margin": never}
    curves = {
        ("toy", "all", name): np.stack([found, np.full_like(found, 7)], axis=2) for name, found in curves.items()
    }
    rows = {row.name.removeprefix("toy, all classes known/"): row for row in labelling.rows(curves, "toy", "all", 7)}
    assert rows["2-per-class/suggest-mixed − random"].value == pytest.approx(5)
    assert rows["as good as 5 random per class/random"].value == pytest.approx(7 * 5)
    assert rows["as good as 5 random per class/suggest-mixed"].value == pytest.approx(7 * 3)
    assert rows["as good as 5 random per class/random ÷ suggest-mixed"].value == pytest.approx(5 / 3, rel=0.01)
    assert "as good as 5 random per class/suggest-margin" not in rows
    assert labelling.reached(np.array([0.9, 0.95]), 0.8) == 1.0


def test_labelling_starts_alike_and_opens_classes(labelling):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    vectors = unit(np.eye(12)[labels] + 0.1 * generator.normal(size=(120, 12)))
    task = labelling.Task(vectors, labels, vectors, labels, np.eye(12, dtype=np.float32)[:6])
    curves = [labelling.curve(task, each, 0, 3, half=False) for each in ("random", "mixed", "unknown")]
    assert len({tuple(curve[0]) for curve in curves}) == 1
    opened = labelling.curve(task, "mixed", 0, 3, half=True)
    assert 3 < opened[0][1] <= opened[-1][1] == 6
