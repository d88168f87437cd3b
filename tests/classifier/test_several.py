"""Texts that may have several labels, or none: one logistic regression per label, each fair to rare labels."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fewtext import FewShotClassifier
from fewtext.embedding import forget
from fewtext.errors import DataError

TEXTS = ["where is my card", "block the stolen card", "flight is late", "refund the late flight", "pay the bill",
         "refund the high bill", "refund the money", "no signal"]  # fmt: skip
LABELS = [["card"], ("card", "loss"), {"flight"}, frozenset(["flight", "refund"]), ["bill"],
          np.array(["bill", "refund"]), ["refund"], []]  # fmt: skip
QUERIES = [*TEXTS, "one two three", "my lost card", "refund the card", "slow internet"]
CLASSES = ["bill", "card", "flight", "loss", "refund"]


@pytest.fixture
def classifier(tiny):
    return FewShotClassifier(tiny).fit(TEXTS, LABELS)


def units(encoder, texts):
    vectors = encoder.encode(texts)
    return np.hstack([vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.ones((len(texts), 1))])


def scratch(classifier):
    own = classifier.supports_
    forget(classifier.base)
    return FewShotClassifier(classifier.base, classes=own.classes).fit(own.texts, own.labels)


def same(one, other):
    assert one.classes_.tolist() == other.classes_.tolist()
    np.testing.assert_allclose(one.predict_proba(QUERIES), other.predict_proba(QUERIES), atol=1e-6)


def test_each_label_has_a_probability_of_its_own(classifier):
    assert classifier.several_
    assert classifier.classes_.tolist() == CLASSES
    chances = classifier.predict_proba(QUERIES)
    assert chances.shape == (len(QUERIES), 5)
    assert np.abs(chances.sum(axis=1) - 1).max() > 0.1
    predicted = classifier.predict(QUERIES)
    assert predicted.shape == (len(QUERIES),)
    for labels, row in zip(predicted, chances, strict=True):
        assert labels == tuple(classifier.classes_[row > 0.5])
    assert type(predicted[0][0]) is str
    best, found = classifier.predict_top(QUERIES, 2)
    assert best.tolist() == classifier.classes_[np.argsort(-chances)[:, :2]].tolist()
    np.testing.assert_allclose(found, -np.sort(-chances)[:, :2], atol=1e-6)
    assert [label for label, _ in classifier.stream(QUERIES)] == best[:, 0].tolist()


def test_it_knows_what_it_was_shown(tiny):
    own = FewShotClassifier(tiny, names=False, C=1e6).fit(TEXTS, LABELS)
    assert [set(labels) for labels in own.predict(TEXTS)] == [set(labels) for labels in LABELS]
    assert own.predict(["no signal"])[0] == ()
    assert own.score(TEXTS, LABELS) == 1.0
    assert own.score(TEXTS, [*LABELS[:4], ["card"], *LABELS[5:]]) == 7 / 8
    assert own.score(TEXTS, [labels[:1] for labels in map(list, LABELS)]) == 5 / 8


@pytest.mark.parametrize("names", [True, False])
def test_each_label_is_a_balanced_regression_of_scikit_learn(tiny, names):
    own, C = FewShotClassifier(tiny, names=names).fit(TEXTS, LABELS), 100
    head = own._state().head
    texts = [*TEXTS, *CLASSES] if names else TEXTS
    rows = units(tiny, texts)
    for number, label in enumerate(CLASSES):
        # A name is one more text of its own class; it says nothing against the others.
        target = np.array([*(label in labels for labels in LABELS), *([own == label for own in CLASSES] * names)])
        weight = len(texts) / 2 / np.where(target, target.sum(), (~target).sum())
        weight[len(TEXTS) :] *= target[len(TEXTS) :]
        model = LogisticRegression(C=C, fit_intercept=False, tol=1e-8, max_iter=5000)
        expected = model.fit(rows, target, sample_weight=weight).coef_[0]
        np.testing.assert_allclose(head["weight"][number], expected[:-1], atol=1e-3)
        np.testing.assert_allclose(head["bias"][number], expected[-1], atol=1e-3)


def test_names_are_evidence_for_their_class_and_not_against_others(tiny):
    text = TEXTS[0]  # of the class "card"
    plain = FewShotClassifier(tiny, names=False).fit(TEXTS, LABELS)
    words = FewShotClassifier(tiny, names=False, label_descriptions={"loss": text}).fit(TEXTS, LABELS)
    example = FewShotClassifier(tiny, names=False).fit([*TEXTS, text], [*LABELS, ["loss"]])
    found = [one._state().ask([text], lambda logits, _: (logits,))[0][0] for one in (plain, words, example)]
    (_, card, _, loss, _), changes = CLASSES, [dict(zip(CLASSES, own - found[0], strict=True)) for own in found[1:]]
    assert changes[0][loss] > 0.2
    assert changes[1][card] < -0.1 < changes[0][card]


def test_a_rare_label_is_found_among_many_others(minilm):
    things = ("flight", "hotel", "train", "table", "taxi", "bus", "cinema seat", "doctor")
    texts = [f"{verb} a {thing}" for verb in ("book", "cancel", "change", "check") for thing in things]
    labels = [["booking", "food"] if "table" in text else ["booking"] for text in texts]
    own = FewShotClassifier(minilm, names=False).fit([*texts, "hello there", "good morning"], [*labels, [], []])
    found = own.predict(["reserve a table for dinner", "buy a plane ticket", "good evening"])
    assert "food" in found[0]
    assert "food" not in found[1]
    assert found[2] == ()


def test_numbers_are_labels_too(tiny):
    own = FewShotClassifier(tiny).fit(TEXTS, [[1], [1, 2], [3], [], [2], [3, 1], [2], []])
    assert own.classes_.tolist() == [1, 2, 3]
    assert all(isinstance(label, int) for labels in own.predict(QUERIES) for label in labels)


def test_classes_without_texts_are_learned_from_words(minilm):
    own = FewShotClassifier(minilm, classes=["money", "travel", "pets"]).fit(
        ["pay the rent", "a flight", "pay for the train"], [["money"], ["travel"], ["money", "travel"]]
    )
    best, _ = own.predict_top(["cats and dogs", "my train"])
    assert best[:, 0].tolist() == ["pets", "travel"]


def test_what_has_lost_its_texts_still_takes_several_labels(tiny, tmp_path):
    own = FewShotClassifier(tiny, classes=["card", "flight", "bill"]).fit(["my card"], [["card"]])
    own.remove_class("card")
    loaded = FewShotClassifier.from_pretrained(own.save_pretrained(tmp_path / "c", include_texts=True))
    assert loaded.add_class("loan", ["renew the loan"]).several_


def test_the_order_of_texts_and_labels_decides_nothing(classifier):
    order = [5, 2, 7, 0, 4, 1, 6, 3]
    labels = [list(LABELS[row])[::-1] for row in order]
    again = FewShotClassifier(classifier.base).fit([TEXTS[row] for row in order], labels)
    np.testing.assert_allclose(again.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-4)


def test_the_temperature_makes_held_out_labels_likelier(tiny, toy):
    labels = [[toy.classes[label], "all"] if label < 4 else [toy.classes[label]] for label in toy.labels]
    even, odd = slice(0, None, 2), slice(1, None, 2)
    own = FewShotClassifier(tiny).fit(toy.texts[even], labels[even])
    (logits,) = own._state().ask(toy.texts[odd], lambda logits, _: (logits,))
    targets = torch.tensor([[label in given for label in own.classes_] for given in labels[odd]]).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    logits, temperature = torch.from_numpy(logits), own.certainty_.temperature
    assert abs(temperature - 1) > 0.05
    assert loss(logits / temperature, targets) < loss(logits, targets)
    expected = (logits / temperature).sigmoid()
    np.testing.assert_allclose(own.predict_proba(toy.texts[odd]), expected, atol=1e-6)
    assert own.certainty_.threshold is None


EDITS = {
    "add": (lambda c: c.add_examples(["renew the loan", "slow"], [["loan", "refund"], []]), 10, {"loan"}, set()),
    "remove": (lambda c: c.remove_examples(["block the stolen card", "no signal"]), 6, set(), {"loss"}),
    "relabel": (lambda c: c.relabel("no signal", ["signal", "loss"]), 8, {"signal"}, set()),
    "relabel to none": (lambda c: c.relabel("block the stolen card", []), 8, set(), {"loss"}),
    "add a class": (lambda c: c.add_class("loan", ["renew the loan"]), 9, {"loan"}, set()),
    "add a name": (lambda c: c.add_class("loan"), 8, {"loan"}, set()),
    "remove a class": (lambda c: c.remove_class("refund"), 7, set(), {"refund"}),
    "rename": (lambda c: c.rename_class("card", "plastic"), 8, {"plastic"}, {"card"}),
    "merge": (lambda c: c.merge_classes(["card", "loss"], "card"), 8, set(), {"loss"}),
    "forget": (lambda c: c.forget("Block the STOLEN card"), 7, set(), {"loss"}),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_fitting_from_scratch(classifier, name):
    edit, count, added, removed = EDITS[name]
    before = classifier.supports_
    edit(classifier)
    assert len(classifier.supports_.texts) == count
    assert set(classifier.classes_) == {*CLASSES, *added} - removed
    assert classifier.several_
    same(classifier, scratch(classifier))
    if name != "forget":
        assert classifier.undo().supports_ is before
        same(classifier, scratch(classifier))


def test_what_changed_is_said_in_sets_of_labels(classifier):
    before = dict(zip(QUERIES, classifier.predict(QUERIES), strict=True))
    classifier.relabel("refund the money", ["money", "bill"]).add_examples(["high fee"], [{"bill", "fee"}])
    found = classifier.diff(FewShotClassifier(classifier.base).fit(TEXTS, LABELS), QUERIES)
    assert found.relabelled == [("refund the money", ("refund",), ("bill", "money"))]
    assert found.added == [("high fee", ("bill", "fee"))]
    after = dict(zip(QUERIES, classifier.predict(QUERIES), strict=True))
    assert found.answers == [(text, before[text], after[text]) for text in QUERIES if before[text] != after[text]]
    assert found.answers
    assert "('refund',) -> ('bill', 'money'): refund the money" in str(found)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.add_examples(["fee"], ["bill"]), "labels are no lists"),
        (lambda c: c.add_examples(["fee"], [["bill", 3]]), "several types"),
        (lambda c: c.relabel("no signal", "bill"), "labels are no lists"),
        (lambda c: c.classify(TEXTS), "ask predict"),
        (lambda c: list(c.classify_stream(TEXTS)), "ask predict"),
        (lambda c: c.calibrate(TEXTS, LABELS), "label"),
        (lambda c: c.calibrate(TEXTS, ["card"] * 8), "ask predict"),
        (lambda c: c.predict_set(TEXTS), "calibrate"),
        (lambda c: c.set_params(hierarchy="/").predict_branch(TEXTS), "ask predict"),
        (lambda c: c.set_params(method="prototype").fit(TEXTS, LABELS), "need method='linear'"),
        (lambda c: c.set_params(refine=True).fit(TEXTS, LABELS), "need method='linear' without refine"),
        (lambda c: c.fit(TEXTS, [*LABELS[:7], "card"]), "label 7 is no list"),
        (lambda c: c.fit(TEXTS, [["card"]] * 8), "only one class"),
        (lambda c: c.fit(TEXTS, [[]] * 8), "no class"),
    ],
)
def test_what_several_labels_cannot_have_is_said(classifier, ask, message):
    before = classifier.predict_proba(QUERIES)
    with pytest.raises(DataError, match=message):
        ask(classifier)
    np.testing.assert_array_equal(classifier.predict_proba(QUERIES), before)


def test_answers_of_as_many_labels_each_are_tuples_still(tiny):
    texts = ["where is my card", "flight is late", "pay the bill", "book a room"]
    labels = [["a", "b"], ["c", "d"], ["a", "c"], ["b", "d"]]
    classifier = FewShotClassifier(tiny, names=False, C=1e6).fit(texts, labels)
    assert classifier.predict(texts).tolist() == [tuple(own) for own in labels]
