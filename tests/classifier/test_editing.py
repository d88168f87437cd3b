"""Every edit is as exact as fitting from scratch, can be undone, and `forget` leaves no trace."""

import copy
import pickle
import random
import time
from functools import partial

import numpy as np
import pytest
from conftest import changed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from fewtext import FewShotClassifier, load_texts
from fewtext.classifier import fitted
from fewtext.embedding import _MEMORIES, forget
from fewtext.errors import DataError
from fewtext.nn.encoder import Encoder
from fewtext.refine import RefineConfig

TEXTS = ["where is my card", "block the card", "flight is late", "cancel the flight", "pay the bill", "high bill"]
LABELS = ["card", "card", "flight", "flight", "bill", "bill"]
QUERIES = [*TEXTS, "one two three", "renew the loan", "room"]
SECRET = "refund the stolen card to seven"


def scratch(classifier, **given):
    """The same classifier, fitted to its texts with nothing remembered."""
    own = classifier.supports_
    forget(classifier._state().learner.encoder)
    parameters = classifier.get_params() | {"classes": own.classes, "label_descriptions": own.descriptions} | given
    return FewShotClassifier(**parameters).fit(own.texts, own.labels, out_of_scope=own.out_of_scope)


def same(one, other):
    assert one.classes_.tolist() == other.classes_.tolist()
    np.testing.assert_allclose(one.predict_proba(QUERIES), other.predict_proba(QUERIES), atol=1e-6)


def state(classifier):
    own = classifier.supports_
    return own, classifier.predict_proba(QUERIES).tolist(), classifier.certainty_, len(classifier._history)


@pytest.fixture
def classifier(tiny):
    return FewShotClassifier(tiny, label_descriptions={"bill": "a bill to pay"}).fit(TEXTS, LABELS)


LEFT = [*TEXTS[:2], *TEXTS[4:]], ["card", "card", "bill", "bill"]
EDITS = {
    "add": (lambda c: c.add_examples(["my stolen card", "renew the loan"], ["card", "loan"]),
            [*TEXTS, "my stolen card", "renew the loan"], [*LABELS, "card", "loan"]),
    "remove": (lambda c: c.remove_examples(["HIGH bill", "flight is late"]),
               ["where is my card", "block the card", "cancel the flight", "pay the bill"],
               ["card", "card", "flight", "bill"]),
    "remove a class's last": (lambda c: c.remove_examples(["flight is late", "cancel the flight"]), *LEFT),
    "relabel": (lambda c: c.relabel("high bill", "loan"), TEXTS, [*LABELS[:5], "loan"]),
    "add a class": (lambda c: c.add_class("loan", ["renew the loan"]), [*TEXTS, "renew the loan"], [*LABELS, "loan"]),
    "remove a class": (lambda c: c.remove_class("flight"), *LEFT),
    "rename": (lambda c: c.rename_class("card", "lost_card"), TEXTS, ["lost_card", "lost_card", *LABELS[2:]]),
    "merge": (lambda c: c.merge_classes(["card", "flight"], "trip"), TEXTS, ["trip"] * 4 + ["bill"] * 2),
    "merge into one": (lambda c: c.merge_classes(["card", "bill"], "bill"), TEXTS,
                       ["bill", "bill", "flight", "flight", "bill", "bill"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("method", ["linear", "prototype"])
def test_an_edit_is_fitting_from_scratch_and_can_be_undone(classifier, method, name):
    classifier.set_params(method=method).fit(TEXTS, LABELS)
    before, (edit, texts, labels) = state(classifier), EDITS[name]
    assert edit(classifier) is classifier
    forget(classifier.base)
    parameters = classifier.get_params() | {"classes": None}
    same(classifier, FewShotClassifier(**parameters).fit(texts, labels))
    assert not np.allclose(classifier.predict_proba(QUERIES)[:, 0], np.array(before[1])[:, 0])
    assert classifier.undo()._state().supports is before[0]
    assert state(classifier) == before


@pytest.mark.parametrize("description", [None, "renew a loan"])
def test_a_class_is_added_from_words_alone(classifier, description):
    classifier.add_class("loan", description=description)
    same(classifier, scratch(classifier))
    assert classifier.classes_.tolist() == ["bill", "card", "flight", "loan"]
    assert classifier._state().supports.words(True)[-1] == (description or "loan")
    classifier.add_examples(["renew my loan please"], ["loan"]).remove_examples(["renew my loan please"])
    assert ("loan" in classifier.classes_) == bool(description)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.add_examples(["good", ""], ["card", "card"]), "text 1 is empty"),
        (lambda c: c.add_examples(["good"], ["card", "bill"]), "1 texts but 2 labels"),
        (lambda c: c.add_examples(["good"], [3]), "several types"),
        (lambda c: c.remove_examples(["never seen"]), "no text 'never seen' among the 6"),
        (lambda c: c.remove_examples("high bill"), "one string"),
        (lambda c: c.relabel("never seen", "card"), "no text"),
        (lambda c: c.relabel("high bill", ["card"]), "labels are lists"),
        (lambda c: c.add_class("card", ["one more"]), "class 'card' is there already"),
        (lambda c: c.add_class("loan", "one string"), "one string"),
        (lambda c: c.remove_class("loan"), "no class 'loan'"),
        (lambda c: c.rename_class("loan", "fee"), "no class 'loan'"),
        (lambda c: c.rename_class("bill", "card"), "use merge_classes"),
        (lambda c: c.merge_classes(["bill", "loan"], "x"), "no class 'loan'"),
        (lambda c: c.merge_classes(["bill", "card", "flight"], "all"), "only one class, 'all'"),
        (lambda c: c.undo(), "nothing to undo"),
        (lambda c: c.forget("never seen"), "no text"),
        (lambda c: c.remove_class("bill").remove_class("card"), "only one class, 'flight'"),
    ],
)
def test_a_failed_edit_changes_nothing(classifier, edit, message):
    own, chances = classifier.supports_, classifier.predict_proba(QUERIES)
    with pytest.raises(DataError, match=message):
        edit(classifier)
    if classifier._history:  # the first of two edits was one
        classifier.undo()
    assert classifier.supports_ is own
    np.testing.assert_array_equal(classifier.predict_proba(QUERIES), chances)
    assert not classifier._history


def test_a_class_needs_words_where_labels_are_none(tiny):
    classifier = FewShotClassifier(tiny, names=False).fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="'loan' has no text and no words"):
        classifier.add_class("loan")
    assert "loan" not in classifier.classes_


def test_labels_that_are_numbers_are_edited(tiny):
    classifier = FewShotClassifier(tiny).fit(TEXTS, [1, 1, 2, 2, 3, 3])
    classifier.relabel("high bill", 7).merge_classes([2, 3], 2).add_examples(["book"], np.array([7]))
    same(classifier, scratch(classifier))
    assert classifier.classes_.tolist() == [1, 2, 7]
    assert classifier.classes_.dtype == np.int64


def test_what_calibrate_set_goes_with_an_edit_and_comes_back(classifier):
    given = classifier.calibrate(TEXTS, LABELS, coverage=0.5)
    classifier.relabel("high bill", "card")
    assert classifier.certainty_.margin is None
    assert classifier.undo().certainty_ == given


def test_no_more_edits_are_undone_than_are_kept(classifier, monkeypatch):
    monkeypatch.setattr("fewtext.classifier.editing.DEPTH", 2)
    for label in ("a", "b", "c"):
        classifier.relabel("high bill", label)
    assert "a" in classifier.undo().undo().classes_
    with pytest.raises(DataError, match="nothing to undo"):
        classifier.undo()
    classifier.relabel("high bill", "d").fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="nothing to undo"):
        classifier.undo()


class Edits(RuleBasedStateMachine):
    """Random edits of a classifier beside a plain list of texts and labels."""

    encoder: Encoder
    pool = ("card", "flight", "bill", "loan", "fee", "room")
    texts = st.sampled_from([*TEXTS, "renew the loan", "book a room", "Pay the fee", "pay the FEE", "no signal"])
    labels = st.sampled_from(pool)

    def __init__(self):
        super().__init__()
        self.classifier = FewShotClassifier(self.encoder).fit(TEXTS, LABELS)
        self.now = (list(zip(TEXTS, LABELS, strict=True)), frozenset(LABELS), {})
        self.before = []

    def become(self, edit, pairs, classes, words):
        """Make an edit that leads there; one that leaves less than two classes is refused."""
        used = {label for _, label in pairs}
        lost = {label for _, label in self.now[0]} - used - words.keys()
        after = (pairs, frozenset(classes | used) - lost, words)
        if len(after[1]) < 2:
            with pytest.raises(DataError, match="only one class"):
                edit()
            return
        edit()
        self.before.append(self.now)
        self.now = after

    def alike(self, text):
        """The texts that are meant by one: written so, or else but for case."""
        exact = {own for own, _ in self.now[0] if own == text}
        return exact or {own for own, _ in self.now[0] if own.lower() == text.lower()}

    @rule(text=texts, label=labels)
    def add(self, text, label):
        pairs, classes, words = self.now
        self.become(
            lambda: self.classifier.add_examples([text], [label]), [*pairs, (text, label)], classes | {label}, words
        )

    @rule(text=texts)
    def remove(self, text):
        pairs, classes, words = self.now
        if not (gone := self.alike(text)):
            with pytest.raises(DataError, match="no text"):
                self.classifier.remove_examples([text])
            return
        left = [pair for pair in pairs if pair[0] not in gone]
        self.become(lambda: self.classifier.remove_examples([text]), left, classes, words)

    @rule(text=texts, label=labels)
    def relabel(self, text, label):
        pairs, classes, words = self.now
        if moved := self.alike(text):
            after = [(own, label if own in moved else before) for own, before in pairs]
            self.become(lambda: self.classifier.relabel(text, label), after, classes | {label}, words)

    @rule(label=labels, described=st.booleans())
    def add_class(self, label, described):
        pairs, classes, words = self.now
        if label not in classes:
            given = f"{label} please" if described else None
            after = words | ({label: given} if given else {})
            self.become(lambda: self.classifier.add_class(label, description=given), pairs, classes | {label}, after)

    @rule(label=labels)
    def remove_class(self, label):
        pairs, classes, words = self.now
        if label in classes:
            left = [pair for pair in pairs if pair[1] != label]
            rest = {own: given for own, given in words.items() if own != label}
            self.become(lambda: self.classifier.remove_class(label), left, classes - {label}, rest)

    @rule(first=labels, second=labels, into=labels)
    def merge(self, first, second, into):
        pairs, classes, words = self.now
        if {first, second} <= classes:

            def name(label):
                return into if label in (first, second) else label

            order = sorted(words, key=lambda label: name(label) == label)
            self.become(
                lambda: self.classifier.merge_classes([first, second], into),
                [(text, name(label)) for text, label in pairs],
                frozenset(map(name, classes)),
                {name(label): words[label] for label in order},
            )

    @precondition(lambda self: self.before)
    @rule()
    def undo(self):
        self.classifier.undo()
        self.now = self.before.pop()

    @invariant()
    def it_is_what_fitting_from_scratch_gives(self):
        pairs, classes, words = self.now
        texts, labels = zip(*pairs, strict=True) if pairs else ((), ())
        forget(self.encoder)
        parameters = {"classes": sorted(classes), "label_descriptions": words}
        fresh = FewShotClassifier(self.encoder, **parameters).fit(texts, labels)
        first, second = (own._state().ask(QUERIES, _chances)[0] for own in (self.classifier, fresh))
        np.testing.assert_allclose(first, second, atol=1e-6)
        assert self.classifier.classes_.tolist() == sorted(classes)
        assert self.classifier.supports_.labels == labels


def _chances(logits, _):
    return (logits.softmax(dim=1),)


def test_many_random_edits_are_fitting_from_scratch(tiny):
    Edits.encoder = tiny
    few = settings(max_examples=6, stateful_step_count=10, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(Edits, settings=few)


def test_what_changed_is_said(classifier, tiny):
    before = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="no edit to compare with"):
        classifier.diff()
    assert str(classifier.diff(before)) == "no difference"
    classifier.add_examples(["renew the loan"], ["loan"]).remove_class("flight").relabel("high bill", "loan")
    found = classifier.diff(before, QUERIES)
    assert found.added == [("renew the loan", "loan")]
    assert found.removed == [("flight is late", "flight"), ("cancel the flight", "flight")]
    assert found.relabelled == [("high bill", "bill", "loan")]
    assert (found.classes_added, found.classes_removed) == (["loan"], ["flight"])
    first, second = ([answer.label for answer in own.classify(QUERIES)] for own in (before, classifier))
    answers = zip(QUERIES, first, second, strict=True)
    assert found.answers == [(text, a, b) for text, a, b in answers if a != b]
    assert (QUERIES[8], "bill", None) in found.answers
    assert "  answer bill -> ?: room" in str(found)
    assert "+ class loan" in str(found)
    assert "  bill -> loan: high bill" in str(found)
    last = classifier.diff()
    assert (last.relabelled, last.added) == ([("high bill", "bill", "loan")], [])
    with pytest.raises(DataError, match="one string"):
        classifier.diff(texts="one string")


def test_a_text_that_is_there_twice_is_told_apart(classifier):
    assert classifier.add_examples([TEXTS[0]], ["bill"]).diff().added == [(TEXTS[0], "bill")]
    assert str(classifier.add_examples([TEXTS[0]], ["bill"]).diff()) == f"+ bill: {TEXTS[0]}"
    found = classifier.relabel(TEXTS[0], "card").diff()
    assert (found.relabelled, found.added, found.removed) == ([(TEXTS[0], "bill", "card")] * 2, [], [])


def bytes_of(classifier, folder):
    """All that a pickle and a folder with texts hold, and all that the encoder remembers."""
    classifier.save_pretrained(folder, include_texts=True)
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    texts = [text for memory in _MEMORIES.values() for text, _ in memory.rows]
    return b"".join([pickle.dumps(classifier), *files, *(text.encode() for text in texts)]).lower()


def traces(classifier, folder):
    """The places where the secret is."""
    places = {
        "bytes": bytes_of(classifier, folder),
        "supports": repr(classifier.supports_),
        "history": repr([own.supports for own in classifier._history]),
        "facts": repr(classifier.facts_),
        "all": repr(vars(classifier)),
    }
    return {name for name, own in places.items() if (SECRET.encode() if name == "bytes" else SECRET) in own}


@pytest.mark.parametrize("place", ["support", "out of scope", "both"])
def test_a_forgotten_text_leaves_no_trace(tiny, tmp_path, place):
    forget(tiny)
    inside = place != "out of scope"
    classifier = FewShotClassifier(tiny).fit(
        [*TEXTS, *[SECRET] * inside], [*LABELS, *["card"] * inside], out_of_scope=[SECRET.upper(), "room"]
    )
    classifier.relabel("high bill", "card")
    classifier.predict_proba(QUERIES)
    assert "bytes" in traces(classifier, tmp_path / "before")
    chances = classifier.predict_proba(QUERIES)
    assert classifier.forget(f" {SECRET.title()}  ") is classifier
    assert not traces(classifier, tmp_path / "after")
    assert classifier.supports_.texts == tuple(TEXTS)
    assert classifier.supports_.out_of_scope == ("room",)
    assert np.allclose(classifier.predict_proba(QUERIES), chances, atol=1e-6) != inside
    same(classifier, scratch(classifier))
    with pytest.raises(DataError, match="nothing to undo"):
        classifier.undo()


@pytest.fixture
def quick(monkeypatch):
    """Refining takes two steps or three."""
    monkeypatch.setattr("fewtext.refine.SHORT", 2)
    monkeypatch.setattr("fewtext.refine.RefineConfig", partial(RefineConfig, steps=3))


@pytest.fixture
def refinings(quick, monkeypatch):
    """The encoder that refining began with, and the texts that it saw, once for each time."""
    found, refine = [], fitted.refine

    def watched(learner, own, *others, **given):
        found.append((learner.encoder, list(own.texts)))
        return refine(learner, own, *others, **given)

    monkeypatch.setattr(fitted, "refine", watched)
    return found


def test_an_encoder_is_refined_again_only_when_asked_or_to_forget(tiny, refinings):
    classifier = FewShotClassifier(tiny, refine=True).fit([*TEXTS, SECRET], [*LABELS, "card"])
    encoder = classifier._state().learner.encoder
    classifier.relabel("high bill", "card").add_examples(["late flight"], ["flight"])
    assert len(refinings) == 1
    assert classifier._state().learner.encoder is encoder
    classifier.refit()
    assert refinings[1:] == [(tiny, list(classifier.supports_.texts))]
    same(classifier, scratch(classifier))
    classifier.undo()
    assert classifier._state().learner.encoder is encoder
    classifier.forget(SECRET)
    assert refinings[-1] == (tiny, list(classifier.supports_.texts))
    assert SECRET not in classifier.supports_.texts
    assert classifier._state().learner.encoder is not encoder
    same(classifier, scratch(classifier))


def test_nothing_of_a_trial_is_remembered_either(tiny, tmp_path, quick):
    texts = [*TEXTS, "my lost card", "flight to seven", "high fee to pay", SECRET]
    classifier = FewShotClassifier(tiny, refine="auto").fit(texts, [*LABELS, "card", "flight", "bill", "card"])
    assert "held_out" in classifier.facts_["refined"]
    assert "bytes" in traces(classifier, tmp_path / "before")
    classifier.forget(SECRET)
    assert not traces(classifier, tmp_path / "after")


@pytest.mark.parametrize("verb", ["refit", "forget"])
def test_a_loaded_classifier_is_refined_again_from_its_base(tiny, tmp_path, verb, quick):
    classifier = FewShotClassifier(tiny, refine=True).fit([*TEXTS, SECRET], [*LABELS, "card"])
    folder = classifier.save_pretrained(tmp_path / "c", include_texts=True)
    loaded = FewShotClassifier.from_pretrained(folder)
    for own in (classifier, loaded):
        own.relabel("high bill", "card")
        own.refit() if verb == "refit" else own.forget(SECRET)
    np.testing.assert_allclose(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=2e-3)
    assert loaded.base_ == str(folder)


def test_a_base_whose_adapters_are_gone_cannot_be_refined_again(tiny_lora, tmp_path, quick):
    classifier = FewShotClassifier(tiny_lora, refine=True).fit(TEXTS, LABELS)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c", include_texts=True))
    before = loaded.supports_
    for edit in (loaded.refit, lambda: loaded.forget("high bill")):
        with pytest.raises(DataError, match="adapters of its base were not saved"):
            edit()
    assert loaded.supports_ is before
    loaded.relabel("high bill", "card")


def test_a_folder_that_is_replaced_changes_no_classifier_that_was_loaded_from_it(tiny, tmp_path):
    folder = FewShotClassifier(tiny).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c", include_texts=True)
    loaded = FewShotClassifier.from_pretrained(folder)
    before = loaded.predict_proba(QUERIES)
    FewShotClassifier(changed(copy.deepcopy(tiny))).fit(TEXTS, LABELS).save_pretrained(folder, include_texts=True)
    np.testing.assert_allclose(loaded.refit().predict_proba(QUERIES), before, atol=1e-6)


def test_how_optimistic_a_refined_encoder_is_is_measured_before_its_texts_change(tiny_lora, tmp_path, quick):
    plain = FewShotClassifier(tiny_lora, refine=True).fit(TEXTS, LABELS)
    honest = copy.deepcopy(plain)
    assert honest.certainty_.threshold is not None
    expected = honest.facts_["refined"]["optimism"]
    calibrated = plain.calibrate(TEXTS, LABELS, coverage=0.8)
    assert calibrated is plain.certainty_
    loaded = FewShotClassifier.from_pretrained(plain.save_pretrained(tmp_path / "c", include_texts=True))
    loaded.relabel("high bill", "card")
    assert loaded.facts_["refined"]["optimism"] == pytest.approx(expected)


def test_it_says_when_refining_again_is_worth_it(tiny, toy, caplog, quick):
    labels = [toy.classes[label] for label in toy.labels]
    classifier = FewShotClassifier(tiny, refine=True).fit(toy.texts[:40], labels[:40])
    assert not classifier.needs_refit_
    classifier.remove_examples(toy.texts[:3])
    assert not classifier.needs_refit_
    assert classifier.facts_["refined"]["changed_since"] == 3
    with caplog.at_level("INFO", logger="fewtext"):
        classifier.add_examples(toy.texts[40:42], labels[40:42])
    assert classifier.needs_refit_
    assert "refit() refines it again" in caplog.text
    assert not classifier.refit().needs_refit_
    assert classifier.undo().needs_refit_
    assert not FewShotClassifier(tiny, classes=["card", "flight"]).fit().add_class("bill").needs_refit_


def test_refining_that_did_not_help_is_not_said_to_have_been_done(tiny, toy, caplog, monkeypatch):
    monkeypatch.setattr("fewtext.refine.refined", lambda learner, *_: learner)
    labels = [toy.classes[label] for label in toy.labels]
    classifier = FewShotClassifier(tiny, refine="auto").fit(toy.texts[:40], labels[:40])
    assert not classifier.facts_["refined"]["kept"]
    with caplog.at_level("INFO", logger="fewtext"):
        assert not classifier.remove_examples(toy.texts[:3]).needs_refit_
        assert classifier.add_examples(toy.texts[40:42], labels[40:42]).needs_refit_
    assert caplog.messages == ["many texts changed since refining did not help: refit() tries whether it does now"]
    assert not classifier.refit().needs_refit_


def test_what_is_known_of_the_data_stays_and_what_was_measured_goes(classifier):
    classifier.facts_.update(data={"sources": ["mine"]}, results=[{"name": "accuracy", "value": 1.0}])
    facts = classifier.relabel("high bill", "card").facts_
    assert facts["data"] == {"sources": ["mine"]}
    assert "results" not in facts
    assert facts["shots"] == {"min": 1, "max": 3}


@pytest.mark.slow
def test_an_edit_of_77_classes_takes_three_tenths_of_a_second_at_most(data_root, minilm):
    texts = load_texts("banking77", data_root=data_root, split="train")
    few, more = texts.at_most(10), texts.at_most(13, seed=1)
    labels = [few.classes[label] for label in few.labels]
    classifier = FewShotClassifier(minilm).fit(few.texts, labels)
    new = [row for row, text in enumerate(more.texts) if text not in few.texts][:9]
    seconds = []
    for row in new:
        start = time.process_time()
        classifier.add_examples([more.texts[row]], [more.classes[more.labels[row]]])
        seconds.append(time.process_time() - start)
    assert np.median(seconds) <= 0.3, seconds
    queries = random.Random(0).sample(list(more.texts), 50)
    forget(minilm)
    own = classifier.supports_
    fresh = FewShotClassifier(minilm).fit(own.texts, own.labels)
    np.testing.assert_allclose(classifier.predict_proba(queries), fresh.predict_proba(queries), atol=1e-6)
