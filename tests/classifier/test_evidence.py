"""Evidence is exact: shares add up to the lead, and `without` is what a refit says."""

from functools import partial

import numpy as np
import pytest

from fewtext import FewShotClassifier, load_texts
from fewtext.errors import DataError, LearnerError
from fewtext.refine import RefineConfig

CARD = ["where is my card", "block the card", "stolen card"]
FLIGHT = ["flight is late", "cancel the flight", "late to the flight"]
BILL = ["pay the bill", "high bill", "bill has not arrived"]
TEXTS, LABELS = [*CARD, *FLIGHT, *BILL], ["card"] * 3 + ["flight"] * 3 + ["bill"] * 3
QUERIES = [*TEXTS, "one two three", "my lost card", "cancel the bill", "pay for the flight"]
ALL = len(TEXTS) + 3


@pytest.fixture
def classifier(tiny):
    return FewShotClassifier(tiny).fit(TEXTS, LABELS)


def lead(classifier, text):
    """The two best labels, and how far the logits of the better one are above the other's, from probabilities."""
    chances = classifier.predict_proba([text])[0].astype(float)
    first, second = np.argsort(-chances)[:2]
    logits = np.log(chances) * classifier.certainty_.temperature
    return classifier.classes_[first], classifier.classes_[second], logits[first] - logits[second]


@pytest.mark.parametrize("given", [{}, {"names": False}, {"C": 1.0}, {"label_descriptions": {"card": "a lost card"}}])
def test_shares_add_up_to_the_lead_that_probabilities_show(tiny, given):
    classifier = FewShotClassifier(tiny, **given).fit(TEXTS, LABELS)
    for text in QUERIES:
        label, runner_up, expected = lead(classifier, text)
        for most in (0, 3, 100):
            found = classifier.explain(text, most=most, without=0)
            assert (found.text, found.label, found.runner_up) == (text, label, runner_up)
            assert found.lead == pytest.approx(expected, abs=1e-4)
            assert sum(part.share for part in found.evidence) + found.others + found.bias == pytest.approx(found.lead)
            assert len(found.evidence) == min(most, ALL if classifier.names else len(TEXTS))
        assert found.others == pytest.approx(0, abs=2e-4)  # nothing is left but what rounding the head leaves


def test_the_largest_shares_come_first_each_with_its_text_and_cosine(classifier, tiny):
    found = classifier.explain("stolen card", most=100, without=0).evidence
    sizes = [abs(part.share) for part in found]
    assert sizes == sorted(sizes, reverse=True)
    assert {(part.text, part.label) for part in found if not part.named} == set(zip(TEXTS, LABELS, strict=True))
    vectors = tiny.encode([part.text for part in found] + ["stolen card"])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose([part.cosine for part in found], vectors[:-1] @ vectors[-1], atol=1e-5)


def test_the_words_of_a_class_count_as_evidence(tiny):
    spoken = {"card": "lost or stolen card"}
    classifier = FewShotClassifier(tiny, label_descriptions=spoken).fit(TEXTS, LABELS)
    found = classifier.explain("stolen card", most=100)
    named = {part.label: part for part in found.evidence if part.named}
    assert {label: part.text for label, part in named.items()} == spoken | {"bill": "bill", "flight": "flight"}
    assert named["card"].share > 0
    assert all(part.without is None for part in named.values())
    assert "(the name of card)" in str(found)


@pytest.mark.parametrize("names", [True, False])
def test_without_is_what_fitting_without_the_text_says(tiny, names):
    classifier, differ = FewShotClassifier(tiny, names=names).fit(TEXTS, LABELS), 0
    for text in QUERIES[::2]:
        found = classifier.explain(text, most=100, without=4)
        asked = [part for part in found.evidence if part.without is not None]
        speaking = [part for part in found.evidence if part.share > 0 and not part.named]
        assert asked == speaking[:4]
        for part in asked:
            left = [pair for pair in zip(TEXTS, LABELS, strict=True) if pair[0] != part.text]
            fresh = FewShotClassifier(tiny, names=names).fit(*zip(*left, strict=True))
            assert part.without == fresh.predict([text])[0]
            if part.without != found.label:
                differ += 1
                assert f"without it: {part.without}" in str(found)
        assert str(found).count("the same without it") == [part.without for part in asked].count(found.label)
    assert differ


def test_it_reads_well(classifier):
    found = classifier.explain("stolen card", most=2)
    lines = str(found).splitlines()
    assert lines[0] == "stolen card"
    assert lines[1] == f"  {found.label}, not {found.runner_up}, by {found.lead:.2f}"
    assert f"{found.evidence[0].share:+.2f}" in lines[2]
    assert lines[-2].endswith("all others")
    assert lines[-1].endswith("whatever the text")


def test_that_the_text_would_be_rejected_is_said(classifier):
    classifier.calibrate(TEXTS, LABELS, coverage=0.5)
    reasons, asked = set(), [text for text in QUERIES if text not in TEXTS]  # of which none is the threshold itself
    for text, answer in zip(asked, classifier.classify(asked), strict=True):
        found = classifier.explain(text, without=0)
        assert (str(found.answer), found.label) == (str(answer), answer.best)
        line = str(found).splitlines()[1]
        assert line == f"  {answer}" if answer.label is None else line.startswith(f"  {found.label}, not ")
        reasons.add(answer.reason)
    assert reasons == {"known", "unfamiliar"}


def test_another_label_than_the_most_probable_one_is_explained(classifier):
    best = classifier.explain("stolen card")
    other = classifier.explain("stolen card", label=best.runner_up)
    assert (other.label, other.runner_up) == (best.runner_up, best.label)
    assert other.lead == pytest.approx(-best.lead)
    assert other.answer == best.answer
    with pytest.raises(DataError, match="no class 'loan'"):
        classifier.explain("stolen card", label="loan")


SEVERAL = [["card", "bill"], *([label] for label in LABELS[1:8]), []]


@pytest.mark.parametrize(("given", "counts"), [({}, {1, 2}), ({"names": False, "C": 1.0}, {0, 1, 2})])
def test_each_of_several_labels_is_explained(tiny, given, counts):
    classifier, lengths = FewShotClassifier(tiny, **given).fit(TEXTS, SEVERAL), set()
    for text in QUERIES:
        (answer,), (chances,) = classifier.predict([text]), classifier.predict_proba([text]).astype(float)
        logits = np.log(chances / (1 - chances)) * classifier.certainty_.temperature
        for label, logit in zip(classifier.classes_, logits, strict=True):
            found = classifier.explain(text, label=label, most=100, without=0)
            assert (found.answer, found.label, found.runner_up) == (answer, label, None)
            assert found.lead == pytest.approx(logit, abs=1e-3)
            assert sum(part.share for part in found.evidence) + found.bias == pytest.approx(found.lead, abs=1e-3)
            assert found.others == pytest.approx(0, abs=1e-3)
            assert str(found).splitlines()[-len(found.evidence) - 3] == f"  {label}, by {found.lead:.2f}"
            assert (f"  {', '.join(answer) or 'no label'}\n" in str(found)) == (label not in answer)
        assert classifier.explain(text, without=0).label == classifier.classes_[logits.argmax()]
        lengths.add(len(answer))
    assert lengths == counts
    whole = classifier.explain(TEXTS[0], most=100)
    assert {(part.text, part.label) for part in whole.evidence if not part.named} == {
        (text, tuple(sorted(labels))) for text, labels in zip(TEXTS, SEVERAL, strict=True)
    }
    assert f"{TEXTS[0]}  [bill, card]" in str(whole)


def test_without_is_what_fitting_without_the_text_says_of_several_labels(tiny):
    classifier, differ = FewShotClassifier(tiny).fit(TEXTS, SEVERAL), set()
    for text in QUERIES[::3]:
        found = classifier.explain(text, most=100, without=2)
        asked = [part for part in found.evidence if part.without is not None]
        assert len(asked) == 2
        for part in asked:
            left = [pair for pair in zip(TEXTS, SEVERAL, strict=True) if pair[0] != part.text]
            assert part.without == FewShotClassifier(tiny).fit(*zip(*left, strict=True)).predict([text])[0]
            differ.add(part.without != found.answer)
            words = ", ".join(part.without) or "no label"
            assert ("the same without it" if part.without == found.answer else f"without it: {words}") in str(found)
    assert differ == {True, False}


def test_a_refined_and_an_edited_classifier_are_explained_too(tiny, monkeypatch):
    monkeypatch.setattr("fewtext.refine.RefineConfig", partial(RefineConfig, steps=2))
    classifier = FewShotClassifier(tiny, refine=True).fit(TEXTS, LABELS).relabel("stolen card", "theft")
    for text in QUERIES:
        assert classifier.explain(text).lead == pytest.approx(lead(classifier, text)[2], abs=1e-4)


def test_class_means_are_sums_of_supports_too(classifier, monkeypatch, tiny):
    monkeypatch.setattr("fewtext.heads.MOST_CLASSES", 2)
    means = FewShotClassifier(tiny).fit([*TEXTS, "block the card"], [*LABELS, "bill"])
    assert means._state().head["bias"].abs().max() == 0
    for text in QUERIES:
        label, runner_up, expected = lead(means, text)
        found = means.explain(text, most=100)
        assert (found.label, found.runner_up) == (label, runner_up)
        assert found.lead == pytest.approx(expected, abs=1e-4)
        assert found.others == pytest.approx(0, abs=1e-4)
        # Of a mean only the texts of the two classes themselves can speak.
        assert all(part.share == 0 or part.label in (label, runner_up) for part in found.evidence)


def test_explaining_leaves_no_trace_of_the_text(classifier, tiny, monkeypatch):
    seen, encode = [], tiny.encode
    monkeypatch.setattr(tiny, "encode", lambda texts, **given: seen.extend(texts) or encode(texts, **given))
    classifier.explain("a text of somebody")
    classifier.explain("a text of somebody")
    assert seen == ["a text of somebody"] * 4  # explained and answered, not remembered; no support encoded again


def test_what_cannot_be_explained_is_said(classifier, tiny, tmp_path):
    with pytest.raises(LearnerError, match="method='prototype' is no sum of its supports"):
        FewShotClassifier(tiny, method="prototype").fit(TEXTS, LABELS).explain("card")
    with pytest.raises(DataError, match="saved without its texts"):
        FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c")).explain("card")
    for text in ("", 3):
        with pytest.raises(DataError, match="the text"):
            classifier.explain(text)


def test_real_texts_are_explained_exactly(minilm):
    texts = load_texts("everyday").at_most(3)
    classifier = FewShotClassifier(minilm).fit(texts.texts, [texts.classes[label] for label in texts.labels])
    for text in ("my card was stolen", "could you move my appointment?", "what is this"):
        found = classifier.explain(text, most=1000, without=0)
        assert (found.label, found.runner_up, pytest.approx(found.lead, abs=1e-4)) == lead(classifier, text)
        assert len(found.evidence) == 4 * len(classifier.classes_)
        assert found.others == pytest.approx(0, abs=1e-4)
