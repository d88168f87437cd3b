"""Answers beyond the best label: what is rejected and why, sets of labels, branches, streams."""

import numpy as np
import pytest

from fewtext import FewShotClassifier, load_texts
from fewtext.classifier.answer import Answer
from fewtext.errors import DataError, LearnerError

CARD = ["where is my card", "block the card", "stolen card", "my card has not arrived"]
FLIGHT = ["flight is late", "cancel the flight", "late to the flight", "flight to seven"]
BILL = ["pay the bill", "high bill", "bill has not arrived", "a bill to pay"]
TEXTS, LABELS = [*CARD, *FLIGHT, *BILL], ["card"] * 4 + ["flight"] * 4 + ["bill"] * 4
QUERIES = [
    *TEXTS,
    "one two three",
    "my lost card",
    "cancel the bill",
    "renew the loan",
    "slow signal",
    "room",
]


@pytest.fixture
def classifier(tiny):
    return FewShotClassifier(tiny, coverage=0.7).fit(TEXTS, LABELS)


@pytest.mark.parametrize("method", ["linear", "prototype"])
def test_answers_agree_with_predictions(classifier, method):
    classifier.set_params(method=method).fit(TEXTS, LABELS)
    chances = classifier.predict_proba(QUERIES)
    answers = classifier.classify(QUERIES)
    assert [answer.best for answer in answers] == classifier.predict(QUERIES).tolist()
    for answer, own in zip(answers, chances, strict=True):
        order = np.argsort(-own)
        assert [label for label, _ in answer.top] == classifier.classes_[order[:2]].tolist()
        np.testing.assert_allclose([chance for _, chance in answer.top], own[order[:2]], atol=1e-6)
        assert (answer.score, answer.runner_up) == (answer.top[0][1], answer.top[1][0])
        assert answer.label == (answer.best if answer.reason == "known" else None)
        assert answer.parent is None


def test_what_scores_less_than_the_threshold_is_rejected_with_a_reason(classifier):
    own, state = classifier.certainty_, classifier._state()
    held_out = state.held_out(QUERIES)
    known = (held_out.scores(own.temperature) >= own.threshold).tolist()
    unlike = (held_out.cosines < own.unfamiliar).tolist()
    answers = classifier.classify(QUERIES)
    expected = ["known" if a else "unfamiliar" if b else "ambiguous" for a, b in zip(known, unlike, strict=True)]
    assert [answer.reason for answer in answers] == expected
    assert set(expected) == {"known", "unfamiliar", "ambiguous"}
    assert set(classifier.predict(QUERIES)) <= set(LABELS)  # a class, whatever the threshold says


def test_an_answer_reads_well():
    top = (("a/x", 0.61), ("a/y", 0.30))
    assert str(Answer("a/x", 0.61, top)) == "a/x (0.61)"
    assert str(Answer(None, 0.61, top, "unfamiliar")) == "I don't know: unlike every class, nearest a/x (0.61)"
    between = "I don't know: between a/x (0.61) and a/y (0.30)"
    assert str(Answer(None, 0.61, top, "ambiguous")) == between
    assert str(Answer(None, 0.61, top, "ambiguous", "a")) == f"{between}; it is one of a"


@pytest.mark.parametrize(("top", "named"), [(1, 2), (2, 2), (3, 3), (9, 3)])
def test_an_answer_names_the_best_few(classifier, top, named):
    answers = classifier.classify(QUERIES, top=top)
    labels, chances = classifier.predict_top(QUERIES, named)
    assert [[label for label, _ in answer.top] for answer in answers] == labels.tolist()
    np.testing.assert_allclose([[chance for _, chance in answer.top] for answer in answers], chances, atol=1e-6)


def test_texts_of_no_class_move_the_threshold(tiny):
    outside = ["renew the loan", "slow signal", "book a room", "no signal"]
    without = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    own = FewShotClassifier(tiny).fit(TEXTS, LABELS, out_of_scope=outside)
    np.testing.assert_array_equal(own.predict_proba(QUERIES), without.predict_proba(QUERIES))
    rejected = [sum(answer.label is None for answer in one.classify(outside)) for one in (own, without)]
    assert rejected[0] > rejected[1]
    assert own.remove_class("bill").certainty_.threshold != without.remove_class("bill").certainty_.threshold


def test_equal_classes_are_told_apart_as_predictions_do(tiny):
    classifier = FewShotClassifier(tiny, names=False).fit([*TEXTS, *TEXTS], [*["b"] * 12, *["a"] * 12])
    assert {answer.best for answer in classifier.classify(TEXTS)} == set(classifier.predict(TEXTS)) == {"a"}


def test_a_stream_of_answers_is_read_as_it_is_answered(classifier, monkeypatch):
    monkeypatch.setattr("fewtext.classifier.answering.CHUNK", 4)
    taken = []
    answers = classifier.classify_stream((taken.append(text) or text for text in QUERIES), top=3)
    assert not taken
    first = next(answers)
    assert taken == QUERIES[:4]
    found, expected = [first, *answers], classifier.classify(QUERIES, top=3)
    assert [(one.label, one.reason, one.best) for one in found] == [(o.label, o.reason, o.best) for o in expected]
    assert list(classifier.classify_stream([])) == []
    with pytest.raises(DataError, match="text 5 is empty"):
        list(classifier.classify_stream([*TEXTS[:5], ""]))
    with pytest.raises(DataError, match="one string"):
        list(classifier.classify_stream("one string"))


def test_no_more_logits_than_can_be_held(classifier, monkeypatch):
    expected = [answer.best for answer in classifier.classify(QUERIES)]
    seen, own = [], classifier._state()
    of = own.cosines
    monkeypatch.setattr("fewtext.heads.LOGITS", 6)
    monkeypatch.setattr(type(own), "cosines", lambda _, *given: seen.append(len(given[0])) or of(*given))
    assert [answer.best for answer in classifier.classify(QUERIES)] == expected
    assert set(seen) == {2}


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", ["heads.CHUNK", "embedding.LONG"], ids=["answering", "fitting"])
def test_what_takes_long_shows_a_bar_on_a_terminal(name, terminal, tiny, monkeypatch, capsys):
    monkeypatch.setattr(f"fewtext.{name}", 3)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    classifier = FewShotClassifier(tiny).fit(["where is my card", "flight is late"], ["card", "flight"])
    classifier.predict(["pay the bill"])
    shown = capsys.readouterr().err
    assert ("0/4" in shown) == (terminal and name == "embedding.LONG"), "two texts and two names"
    classifier.predict(["pay the bill", "renew the loan", "no signal", "cancel the flight"])
    assert ("0/4" in capsys.readouterr().err) == (terminal and name == "heads.CHUNK")


def test_sets_hold_all_labels_within_the_margin_the_best_one_first(classifier):
    with pytest.raises(DataError, match=r"calibrate\(texts, labels\) first"):
        classifier.predict_set(QUERIES)
    sizes = []
    for coverage in (0.5, 0.8, 0.92):
        own = classifier.calibrate(TEXTS, LABELS[4:] + LABELS[:4], coverage)  # wrong labels: margins are wide
        found, chances = classifier.predict_set(QUERIES), classifier.predict_proba(QUERIES)
        sizes.append(sum(map(len, found)))
        for labels, row in zip(found, chances, strict=True):
            order = np.argsort(-row)
            below = np.log(row[order[0]]) - np.log(row[order])
            assert labels == classifier.classes_[order[: len(labels)]].tolist()
            assert (below[: len(labels)] <= own.margin + 1e-4).all()
            assert (below[len(labels) :] > own.margin - 1e-4).all()
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


NESTED = ["card/lost", "card/late", "card/lost", "card/late", *["trip/flight"] * 4, *["home/bill"] * 4]


@pytest.fixture
def nested(tiny):
    return FewShotClassifier(tiny, hierarchy="/").fit(TEXTS, NESTED)


def test_a_branch_is_as_probable_as_its_labels_together(nested):
    chances = nested.predict_proba(QUERIES)
    assert nested.classes_.tolist() == ["card/late", "card/lost", "home/bill", "trip/flight"]
    sums = np.stack([chances[:, 0] + chances[:, 1], chances[:, 2], chances[:, 3]], axis=1)
    names, found = nested.predict_branch(QUERIES)
    assert names.tolist() == np.array(["card", "home", "trip"])[sums.argmax(axis=1)].tolist()
    np.testing.assert_allclose(found, sums.max(axis=1), atol=1e-6)
    for level in (2, 5):
        names, found = nested.predict_branch(QUERIES, level)
        assert names.tolist() == nested.predict(QUERIES).tolist()
        np.testing.assert_allclose(found, chances.max(axis=1), atol=1e-6)


def test_labels_of_several_depths_have_branches_too(tiny):
    labels = ["card", "card", "card > lost > today", "card > lost", *["trip > flight"] * 4, *["bill"] * 4]
    own = FewShotClassifier(tiny, hierarchy=" > ").fit(TEXTS, labels)
    chances = own.predict_proba(QUERIES)
    names, found = own.predict_branch(QUERIES, 2)
    assert set(names) <= {"card", "card > lost", "trip > flight", "bill"}
    lost = chances[:, [label.startswith("card > lost") for label in own.classes_]].sum(axis=1)
    np.testing.assert_allclose(found[names == "card > lost"], lost[names == "card > lost"], atol=1e-6)


def test_between_labels_of_one_branch_the_branch_is_named(nested):
    nested.calibrate(TEXTS, NESTED, coverage=0.2)  # hardly anything is known any more
    answers = nested.classify(QUERIES)
    branches, chances = nested.predict_branch(QUERIES)
    named = 0
    for answer, branch, chance in zip(answers, branches, chances, strict=True):
        unsure = answer.reason == "ambiguous" and chance >= 0.5
        assert answer.parent == (branch if unsure else None)
        named += unsure
    assert named
    assert {answer.reason for answer in answers} >= {"ambiguous", "unfamiliar"}


def test_branches_need_a_hierarchy_and_a_level(classifier, nested):
    with pytest.raises(LearnerError, match="hierarchy='/'"):
        classifier.predict_branch(QUERIES)
    with pytest.raises(LearnerError, match="level=0"):
        nested.predict_branch(QUERIES, 0)
    with pytest.raises(LearnerError, match="top=0"):
        nested.classify(QUERIES, top=0)


def test_classes_are_learned_from_words_alone(minilm):
    spoken = {"travel": "flights, trains and hotels", "money": "bank accounts and payments"}
    asked = ["my train to Berlin", "a transfer from my account", "my dog is ill"]
    zero = FewShotClassifier(minilm, classes=["pets", "travel", "money"], label_descriptions=spoken).fit()
    assert zero.predict(asked).tolist() == ["travel", "money", "pets"]
    assert [answer.label for answer in zero.classify(asked)] == ["travel", "money", "pets"]
    some = FewShotClassifier(minilm, classes=["pets", "travel", "money"]).fit(
        ["book a hotel", "pay the rent"], ["travel", "money"]
    )
    assert some.predict(asked[2:]).tolist() == ["pets"]


def test_real_texts_of_no_class_are_rejected(data_root, minilm):
    texts = load_texts("clinc150", data_root=data_root, split="validation")
    few, rest = texts.at_most(5), texts.at_most(4, seed=1)
    labels = [few.classes[label] for label in few.labels]
    classifier = FewShotClassifier(minilm).fit(few.texts, labels)
    new = [text for text in rest.texts if text not in few.texts][:300]
    accepted = np.mean([answer.label is not None for answer in classifier.classify(new)])
    rejected = [answer for answer in classifier.classify(texts.out_of_scope) if answer.label is None]
    assert accepted > 0.85
    assert len(rejected) > 0.5 * len(texts.out_of_scope)
