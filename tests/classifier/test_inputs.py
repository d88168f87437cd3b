"""Texts and labels in every container people keep them in, and the classifier inside scikit-learn's tools."""

import datasets
import numpy as np
import pandas
import polars
import pyarrow
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from fewtext import Encoder, FewShotClassifier, load_texts
from fewtext.bases import load_base
from fewtext.errors import DataError

TEXTS = [
    "where is my card",
    "my card has not arrived yet",
    "please block my card",
    "flight is late",
    "cancel the flight",
    "book the late flight",
    "pay the bill",
    "high bill",
    "two fee to pay",
]
LABELS = ["card"] * 3 + ["flight"] * 3 + ["bill"] * 3
NUMBERS = [7] * 3 + [5] * 3 + [2] * 3
TABLE = {"text": TEXTS, "label": LABELS}
DATA = datasets.Dataset.from_dict(TABLE)
ODD = [7, 7, 3, "x", None, 0, 2, 1, 9]  # an index that is no row number


@pytest.fixture
def unfitted(tiny_folder):
    return FewShotClassifier(str(tiny_folder), C=1e3)


@pytest.fixture
def encoded(monkeypatch):
    """Every text that is encoded, in order."""
    seen, encode = [], Encoder.encode
    monkeypatch.setattr(
        Encoder, "encode", lambda own, texts, **given: seen.extend(texts) or encode(own, texts, **given)
    )
    return seen


def upper(texts):
    return [text.upper() for text in texts]


@pytest.mark.parametrize(
    "of",
    [
        list,
        tuple,
        lambda rows: (row for row in rows),
        np.array,
        lambda rows: np.array(rows, dtype=object),
        lambda rows: pandas.Series(rows, index=ODD[: len(rows)]),
        lambda rows: pandas.Series(rows, dtype=object),
        lambda rows: pandas.Series(rows, dtype="category"),
        lambda rows: pandas.Categorical(rows),
        lambda rows: pandas.Index(rows),
        lambda rows: polars.Series(rows),
        lambda rows: polars.Series(rows, dtype=polars.Categorical),
        lambda rows: datasets.Dataset.from_dict({"text": rows})["text"],
        lambda rows: datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": rows})})["train"]["text"],
    ],
    ids="list tuple generator str object odd-index plain category categorical index polars polars-category "
    "column split".split(),
)
def test_every_column_is_as_good_as_a_list(unfitted, of):
    plain = clone(unfitted).fit(TEXTS, LABELS)
    own = unfitted.fit(of(TEXTS), of(LABELS))
    assert own.supports_.texts == tuple(TEXTS)
    assert all(type(text) is str for text in own.supports_.texts)
    assert own.classes_.tolist() == plain.classes_.tolist()
    assert own.predict(of(TEXTS[:4])).tolist() == LABELS[:4]
    assert np.array_equal(own.predict_proba(of(TEXTS)), plain.predict_proba(TEXTS))
    assert own.score(of(TEXTS), of(LABELS)) == 1.0
    assert [label for label, _ in own.stream(of(TEXTS))] == LABELS


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        NUMBERS,
        [label == 7 for label in NUMBERS],
        [1.5 * label for label in NUMBERS],
        np.array(NUMBERS, dtype=np.uint8),
        np.array(LABELS, dtype=object),
        [*np.array(LABELS[:4]), *LABELS[4:]],
        pandas.Series(NUMBERS, dtype="Int64", index=ODD),
        pandas.Series([label == 7 for label in NUMBERS], dtype="boolean"),
        pandas.Series(LABELS, dtype="category", index=ODD),
        pandas.Series(NUMBERS, dtype="category"),
        pandas.Series(LABELS, dtype="string"),
        polars.Series(NUMBERS, dtype=polars.Int16),
        DATA.class_encode_column("label")["label"],
    ],
    ids="str int bool float uint8 object some-numpy Int64 boolean category int-category string polars class".split(),
)
def test_labels_keep_their_type(unfitted, labels):
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    found = unfitted.fit(TEXTS, labels).predict(TEXTS)
    assert found.tolist() == plain
    assert {type(label) for label in found.tolist()} == {type(label) for label in plain}
    assert found.dtype == unfitted.classes_.dtype
    assert [answer.best for answer in unfitted.classify(TEXTS)] == plain
    assert unfitted.score(TEXTS, labels) == 1.0


@pytest.mark.parametrize(
    "missing",
    [
        pandas.Series([*NUMBERS[:-1], None], dtype="Int64"),
        pandas.Series([*LABELS[:-1], None], dtype="category"),
        pandas.Series([*NUMBERS[:-1], None]),
        polars.Series([*NUMBERS[:-1], None]),
    ],
    ids=["Int64", "category", "float", "polars"],
)
def test_a_missing_label_is_found_in_every_column(unfitted, missing):
    with pytest.raises(DataError, match="label 8 is missing"):
        unfitted.fit(TEXTS, missing)


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        pandas.DataFrame(TABLE),
        pandas.DataFrame(TABLE)[["text"]],
        polars.DataFrame(TABLE),
        polars.LazyFrame(TABLE),
        pyarrow.table(TABLE),
        DATA,
        DATA.to_iterable_dataset(),
        datasets.DatasetDict({"train": DATA}),
        np.array([TEXTS]).T,
        np.array("a text"),
        None,
        5,
    ],
    ids=lambda table: type(table).__module__.split(".")[0] + "-" + type(table).__name__,
)
def test_what_is_no_column_is_refused_with_what_to_write(unfitted, table):
    said = rf"must be a list or one column, got {type(table).__name__}\. Write data\['text'\] or data\[:, 0\]"
    with pytest.raises(DataError, match=f"texts {said}"):
        unfitted.fit(table, LABELS)
    with pytest.raises(DataError, match=f"labels {said.replace('text', 'label')}"):
        unfitted.fit(TEXTS, table)
    unfitted.fit(TEXTS, LABELS)
    for ask in (unfitted.predict, unfitted.predict_proba, unfitted.classify, lambda t: list(unfitted.stream(t))):
        with pytest.raises(DataError, match=f"texts {said}"):
            ask(table)
    with pytest.raises(DataError, match="labels must be"):
        unfitted.score(TEXTS, table)


def test_one_string_is_no_list_of_letters(unfitted):
    unfitted.fit(TEXTS, LABELS)
    for ask in (
        lambda: unfitted.predict("one text"),
        lambda: unfitted.fit(TEXTS, "card"),
        lambda: unfitted.fit(TEXTS, LABELS, out_of_scope="one text"),
        lambda: unfitted.add_class("room", "book a room"),
        lambda: unfitted.add_examples(["book a room"], "card"),
        lambda: unfitted.score(TEXTS, "card"),
    ):
        with pytest.raises(DataError, match="one string where several"):
            ask()
    assert unfitted.classes_.tolist() == ["bill", "card", "flight"]


def test_a_score_needs_one_label_per_text(unfitted):
    with pytest.raises(DataError, match="9 texts but 8 labels"):
        unfitted.fit(TEXTS, LABELS).score(TEXTS, LABELS[:8])


def test_a_predicted_label_can_be_given_back(unfitted):
    unfitted.fit(TEXTS, LABELS)
    label = unfitted.predict(["high bill"])[0]
    unfitted.relabel(TEXTS[0], label).add_class(np.str_("room"), ["book a room"]).rename_class(
        "room", np.str_("hotel")
    )
    assert unfitted.supports_.labels[0] == "bill"
    assert unfitted.classes_.tolist() == ["bill", "card", "flight", "hotel"]
    assert {type(own) for own in unfitted.supports_.labels} == {str}


def test_in_a_pipeline(unfitted):
    pipeline = make_pipeline(FunctionTransformer(upper), unfitted).fit(TEXTS, LABELS)
    assert unfitted.supports_.texts == tuple(upper(TEXTS))
    assert pipeline.predict(TEXTS).tolist() == LABELS
    assert pipeline.score(pandas.Series(TEXTS), LABELS) == 1.0
    again = clone(pipeline).set_params(fewshotclassifier__names=False).fit(TEXTS, LABELS)
    assert not again[-1].names
    assert pipeline[-1].names


@pytest.mark.parametrize("of", [list, polars.Series, lambda rows: DATA["text"]])
def test_a_grid_search_encodes_each_text_once(tiny, encoded, of):
    grid = {"C": [1.0, 100.0, 1e4], "names": [True, False]}
    texts = of(TEXTS)
    search = GridSearchCV(FewShotClassifier(tiny), grid, cv=StratifiedKFold(3)).fit(texts, LABELS)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 6
    assert np.isfinite(scores).all()
    # The fold that is scored first was in no fit yet.
    assert sorted(encoded) == sorted([*TEXTS, *TEXTS[::3], *{*LABELS}])
    assert search.best_estimator_.base is tiny
    assert search.score(texts, LABELS) == search.best_estimator_.score(TEXTS, LABELS)


def test_a_grid_may_hold_bases_and_numpy_s_numbers(tiny, tiny_lora, tmp_path):
    grid = {"base": [tiny, tiny_lora], "C": np.array([1, 100])}
    search = GridSearchCV(FewShotClassifier(), grid, cv=3).fit(TEXTS, LABELS)
    assert {id(base) for base in search.cv_results_["param_base"]} == {id(tiny), id(tiny_lora)}
    assert search.best_estimator_.base in (tiny, tiny_lora)
    best = search.best_estimator_.save_pretrained(tmp_path / "best")
    np.testing.assert_allclose(
        FewShotClassifier.from_pretrained(best).predict_proba(TEXTS), search.predict_proba(TEXTS), atol=1e-6
    )


def test_a_base_given_by_name_is_loaded_once(unfitted, monkeypatch):
    load_base.__globals__["_loaded"].clear()
    loads, load = [], Encoder.from_pretrained
    monkeypatch.setattr(Encoder, "from_pretrained", lambda base, **given: loads.append(base) or load(base, **given))
    cross_val_score(unfitted, TEXTS, LABELS, cv=3)
    GridSearchCV(unfitted, {"C": [1, 10]}, cv=3).fit(TEXTS, LABELS)
    assert loads == [unfitted.base]


@pytest.mark.slow  # each process imports torch
def test_on_several_processes(unfitted):
    alone = GridSearchCV(unfitted, {"C": [1.0, 1e4]}, cv=3).fit(TEXTS, LABELS)
    several = GridSearchCV(unfitted, {"C": [1.0, 1e4]}, cv=3, n_jobs=2).fit(TEXTS, LABELS)
    assert several.cv_results_["mean_test_score"].tolist() == alone.cv_results_["mean_test_score"].tolist()
    back = cross_validate(unfitted, TEXTS, LABELS, cv=3, n_jobs=2, return_estimator=True)["estimator"]
    assert [own.classes_.tolist() for own in back] == [["bill", "card", "flight"]] * 3


def test_cross_validation_is_what_a_loop_gives(tiny):
    classifier, folds = FewShotClassifier(tiny, names=False), StratifiedKFold(3)
    scores = cross_val_score(classifier, np.array(TEXTS), LABELS, cv=folds)
    chances = cross_val_predict(classifier, TEXTS, LABELS, cv=folds, method="predict_proba")
    labels, texts = np.array(LABELS), np.array(TEXTS)
    for (train, test), score in zip(folds.split(texts, labels), scores, strict=True):
        own = FewShotClassifier(tiny, names=False).fit(texts[train], labels[train])
        assert own.score(texts[test], labels[test]) == score
        np.testing.assert_allclose(own.predict_proba(texts[test]), chances[test], atol=1e-6)


def test_texts_of_several_labels_are_cross_validated_where_folds_need_no_classes(tiny):
    several = [[label, "urgent"] if row % 2 else [label] for row, label in enumerate(LABELS)]
    scores = cross_val_score(FewShotClassifier(tiny), TEXTS, several, cv=KFold(3, shuffle=True, random_state=0))
    assert len(scores) == 3
    assert np.isfinite(scores).all()


def test_the_routes_of_metadata_outlive_a_clone(unfitted):
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        unfitted.set_fit_request(out_of_scope=True)
        search = GridSearchCV(unfitted, {"C": [1, 10]}, cv=3).fit(TEXTS, LABELS, out_of_scope=["ten", "no signal"])
    assert search.best_estimator_.supports_.out_of_scope == ("ten", "no signal")


def test_inside_other_estimators(tiny):
    classifier = FewShotClassifier(tiny)
    calibrated = CalibratedClassifierCV(classifier, cv=3).fit(TEXTS, LABELS)
    voting = VotingClassifier([("a", classifier), ("b", clone(classifier).set_params(C=1.0))], voting="soft")
    for own in (calibrated, voting.fit(TEXTS, LABELS)):
        assert set(own.predict(TEXTS)) <= set(LABELS)
        np.testing.assert_allclose(own.predict_proba(TEXTS).sum(axis=1), 1, atol=1e-6)


def test_banking77_a_grid_search_finds_what_a_loop_finds(data_root, minilm, encoded):
    data = load_texts("banking77", data_root=data_root).part("train")
    data = data.only(data.classes[:10]).at_most(6)
    labels, costs, folds = np.array(data.classes)[data.labels], [0.01, 1.0, 100.0, 1e4], StratifiedKFold(3)
    search = GridSearchCV(FewShotClassifier(minilm, names=False), {"C": costs}, cv=folds).fit(data.texts, labels)
    assert len(encoded) <= 60 + 20  # of 4 values × 3 folds × 60 texts, and 60 in the end
    vectors = np.hstack([minilm.encode(data.texts), np.ones((60, 1))])
    solvers = [LogisticRegression(C=C, class_weight="balanced", fit_intercept=False, max_iter=5000) for C in costs]
    by_hand = [cross_val_score(solver, vectors, labels, cv=folds).mean() for solver in solvers]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand)
    assert search.best_params_["C"] == costs[np.argmax(by_hand)]
    assert len({*by_hand}) > 1
