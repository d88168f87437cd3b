"""A text and its paraphrases count as one text, wherever a classifier looks at it."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewtext import FewShotClassifier, LabeledTexts, load_texts
from fewtext.classifier.supports import Supports
from fewtext.cli import main
from fewtext.data.collate import ragged
from fewtext.data.training_set import TrainingSet
from fewtext.embedding import _MEMORIES, forget, unit
from fewtext.errors import DataError
from fewtext.heads import Examples, fit_own
from fewtext.learners.prototypical import Prototypical
from fewtext.refine import RefineConfig, refined

TEXTS = ["where is my card", "block the card", "flight is late", "cancel the flight"]
LABELS = ["card", "card", "flight", "flight"]
SAID = {"where is my card": ["my card is lost", "the stolen card"], "flight is late": ["a late plane"]}
QUERIES = [*TEXTS, "room", "renew the loan"]


@pytest.fixture
def classifier(tiny):
    forget(tiny)
    return FewShotClassifier(tiny).fit(TEXTS, LABELS, paraphrases=SAID)


def test_a_text_is_the_direction_of_the_mean_of_all_ways_to_say_it(tiny):
    words, labels = ["", TEXTS[2]], np.array([0, 0, 1, 1])  # a word is itself, even where it is one of the texts
    found = Examples.of(tiny, TrainingSet(TEXTS, labels, words, SAID)).vectors
    for row, ways in enumerate([*([text, *SAID.get(text, [])] for text in TEXTS), [TEXTS[2]]]):
        torch.testing.assert_close(found[row], F.normalize(unit(tiny, ways).sum(0), dim=0))
    plain = Examples.of(tiny, TrainingSet(TEXTS, labels, words)).vectors
    assert torch.equal(plain, unit(tiny, [*TEXTS, TEXTS[2]]))


def test_there_are_no_more_texts_than_before(classifier, tiny):
    plain = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    assert not np.allclose(classifier.predict_proba(QUERIES), plain.predict_proba(QUERIES), atol=1e-3)
    assert classifier.facts_["texts"] == plain.facts_["texts"]
    assert {part.text for part in classifier.explain("where is my card").evidence} <= {*TEXTS, "card", "flight"}


def test_a_held_out_text_s_paraphrases_are_held_out_with_it(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr("fewtext.refine.refined", lambda learner, own, *_: seen.append(own.ways()[0]) or learner)
    three = [*TEXTS, "pay the card", "book a flight"], [*LABELS, "card", "flight"]
    FewShotClassifier(tiny, refine="auto").fit(*three, paraphrases=SAID)
    assert not {"where is my card", *SAID["where is my card"]} & {*seen[0]}


def test_edits_keep_what_belongs_to_a_text(classifier, tiny):
    classifier.relabel("where is my card", "flight").rename_class("flight", "travel")
    classifier.add_examples(["high bill", "pay the bill"], ["bill", "bill"], paraphrases={"high bill": ["a bill"]})
    classifier.remove_examples(["flight is late"])
    own = classifier.supports_
    assert own.paraphrases == {"where is my card": ("my card is lost", "the stolen card"), "high bill": ("a bill",)}
    again = FewShotClassifier(tiny).fit(own.texts, own.labels, paraphrases=own.paraphrases)
    np.testing.assert_allclose(again.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "left"),
    [("My card is LOST", {"where is my card": ("the stolen card",)}), ("where is my card", {})],
)
def test_forgetting_a_paraphrase_or_its_text_leaves_no_trace_of_it(classifier, tiny, text, left):
    classifier.forget(text)
    assert classifier.supports_.paraphrases == left | {"flight is late": ("a late plane",)}
    remembered = {known for known, _ in _MEMORIES[tiny].rows}
    assert "my card is lost" not in remembered
    assert "my card is lost" not in repr(vars(classifier))
    assert ("the stolen card" in remembered) == bool(left)


def test_they_are_saved_only_with_the_texts(classifier, tmp_path):
    bare = classifier.save_pretrained(tmp_path / "bare")
    assert not any("stolen card" in file.read_text("utf-8", "ignore") for file in bare.iterdir() if file.is_file())
    full = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "full", include_texts=True))
    assert full.supports_.paraphrases == classifier.supports_.paraphrases
    np.testing.assert_allclose(
        full.add_examples(["high bill"], ["bill"]).predict_proba(QUERIES),
        classifier.add_examples(["high bill"], ["bill"]).predict_proba(QUERIES),
        atol=1e-6,
    )


def test_texts_that_were_saved_before_there_were_paraphrases_are_read(classifier, tmp_path):
    from fewtext.artifact.entries import are_texts
    from fewtext.classifier.saving import _supports, _texts

    new = _texts(classifier.supports_)
    old = {key: value for key, value in new.items() if key != "paraphrases"}
    assert are_texts(new, 2, several=False)
    assert are_texts(old, 2, several=False)
    assert _supports(old, ("card", "flight"), several=False).paraphrases == {}
    assert not are_texts(new | {"paraphrases": [["a", "b"]]}, 2, several=False)


def test_a_learner_s_own_head_takes_them_as_more_texts(tiny):
    learner, labels = Prototypical(tiny).eval(), np.array([0, 0, 1, 1])
    found = fit_own(learner, TrainingSet(TEXTS, labels, ["", ""], SAID))
    more = [TEXTS[0], *SAID[TEXTS[0]], TEXTS[1], TEXTS[2], *SAID[TEXTS[2]], TEXTS[3]]
    wanted = fit_own(learner, TrainingSet(more, np.array([0, 0, 0, 0, 1, 1, 1]), ["", ""]))
    query = ragged([tiny.tokenize(QUERIES)])
    torch.testing.assert_close(learner.predict(found, query), learner.predict(wanted, query))


def test_refining_draws_among_the_ways_to_say_a_text(tiny, monkeypatch):
    seen, learner = set(), Prototypical(tiny).eval()
    monkeypatch.setattr("fewtext.refine.ragged", lambda rows: seen.update(map(tuple, rows[0])) or ragged(rows))
    refined(learner, TrainingSet(TEXTS, np.array([0, 0, 1, 1]), ["card", "flight"], SAID), RefineConfig(steps=12))
    everything = {*TEXTS, "card", "flight", *(way for ways in SAID.values() for way in ways)}
    assert seen == set(map(tuple, tiny.tokenize(sorted(everything))))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"never seen": ["a"]}, "no text 'never seen'"),
        ({TEXTS[0]: [""]}, "paraphrase of 'where is my card' is empty"),
        ({TEXTS[0]: [7]}, "must be a string, got int"),
        ({TEXTS[0]: "one string"}, "one string"),
        ([["a"]], "must be lists of texts by text, got list"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        Supports.of(TEXTS, LABELS, paraphrases=given)


def test_they_are_read_from_columns(tmp_path):
    (tmp_path / "a.csv").write_text(
        "text,label,one,two\nmy card,card,the card,\nlate,flight,,delayed\nroom,hotel,,\n"
    )
    found = load_texts(str(tmp_path / "a.csv"), paraphrase_columns=("one", "two"))
    assert found.paraphrases == {"my card": ("the card",), "late": ("delayed",)}
    assert found.at_most(1).paraphrases == found.paraphrases
    rows = [{"text": "my card", "label": "card", "more": ["the card", "a card"]}, {"text": "late", "label": "flight"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_texts(str(tmp_path / "a.jsonl"), paraphrase_columns=("more",)).paraphrases == {
        "my card": ("the card", "a card")
    }
    with pytest.raises(DataError, match="no paraphrase column 'three'"):
        load_texts(str(tmp_path / "a.csv"), paraphrase_columns=("three",))
    assert LabeledTexts.of(TEXTS, LABELS).paraphrases == {}


def test_a_paraphrase_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "b", "n": 7}\n{"text": "c", "label": "d", "n": 8}\n')
    with pytest.raises(DataError, match="column 'n': a paraphrase must be a string, got int"):
        load_texts(str(tmp_path / "a.jsonl"), paraphrase_columns=("n",))


def test_the_command_reads_their_columns(tiny_folder, tmp_path):
    (tmp_path / "a.csv").write_text("text,label,more\nmy card,card,the card\nlate,flight,\n")
    command = ["fit", str(tmp_path / "a.csv"), "--out", str(tmp_path / "own"), "--base", str(tiny_folder)]
    assert main([*command, "--paraphrase-columns", "more", "--include-texts"]) == 0
    assert FewShotClassifier.from_pretrained(tmp_path / "own").supports_.paraphrases == {"my card": ("the card",)}
