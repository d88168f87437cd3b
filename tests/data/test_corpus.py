"""The corpus shipped in the package is as large, as varied and as cleanly split as its card says."""

import json
import re
from collections import Counter

import pytest

from fewtext.data.card import DataCard, cards_folder
from fewtext.data.load import load_texts
from fewtext.data.texts import normalise

CARD = DataCard.read("everyday")
SPLITS = range(1, CARD.class_splits["count"] + 1)


@pytest.fixture(scope="module")
def corpus():
    return load_texts("everyday", data_root=cards_folder())


@pytest.fixture(scope="module")
def domains():
    """The domain of every intent; None for texts out of scope."""
    lines = (cards_folder() / "everyday" / "data.jsonl").read_text("utf-8").splitlines()
    found = {(row["label"], row["domain"]) for row in map(json.loads, lines) if row["label"] != "oos"}
    assert len(found) == len(dict(found)), "an intent stands in two domains"
    return dict(found)


@pytest.fixture(scope="module", params=SPLITS)
def groups(request):
    return CARD.class_groups(request.param, cards_folder())


def starts(texts, words=3):
    return Counter(" ".join(re.findall(r"[\w']+", text.casefold())[:words]) for text in texts)


def test_there_are_many_intents_in_several_domains(corpus, domains):
    assert len(corpus.classes) >= 60
    assert len(set(domains.values())) >= 8


def test_every_intent_has_two_dozen_different_texts(corpus):
    different = {(normalise(text), label) for text, label in zip(corpus.texts, corpus.labels, strict=True)}
    assert min(Counter(label for _, label in different).values()) >= 24


def test_many_texts_are_out_of_scope_and_none_of_them_is_in_scope(corpus):
    outside = {normalise(text) for text in corpus.out_of_scope}
    assert len(outside) >= 150
    assert not outside & {normalise(text) for text in corpus.texts}


def test_out_of_scope_is_no_class(corpus):
    assert CARD.out_of_scope_label not in corpus.classes


def test_no_text_stands_under_two_labels(corpus):
    different = {(normalise(text), label) for text, label in zip(corpus.texts, corpus.labels, strict=True)}
    assert [text for text, times in Counter(text for text, _ in different).items() if times > 1] == []


def test_no_two_texts_of_an_intent_share_their_first_three_words(corpus):
    of = {label: [] for label in corpus.classes}
    for text, label in zip(corpus.texts, corpus.labels, strict=True):
        of[corpus.classes[label]].append(text)
    assert {(label, start) for label, own in of.items() for start, times in starts(own).items() if times > 1} == set()


def test_there_are_five_class_splits():
    assert list(SPLITS) == [1, 2, 3, 4, 5]


def test_class_splits_put_every_class_on_exactly_one_side(corpus, groups):
    assert sorted(groups) == ["test", "train", "validation"]
    assert sorted(label for part in groups.values() for label in part) == list(corpus.classes)


def test_class_splits_keep_a_domain_on_one_side(domains, groups):
    sides = {(domains[label], part) for part, classes in groups.items() for label in classes}
    assert len(sides) == len(set(domains.values()))


def test_every_side_of_a_class_split_allows_ten_ways(groups):
    assert min(map(len, groups.values())) >= 10


def test_every_domain_is_tested_in_some_class_split(domains):
    tested = {domains[label] for split in SPLITS for label in CARD.class_groups(split, cards_folder())["test"]}
    assert tested == set(domains.values())


def test_the_card_counts_right(corpus, domains):
    card = (cards_folder() / "everyday.md").read_text("utf-8")
    sizes = set(Counter(corpus.labels.tolist()).values())
    assert f"{len(corpus):,} in scope and {len(corpus.out_of_scope)} out of scope" in card
    assert f"{len(corpus.classes)} intents" in card
    assert f"in each of {len(set(domains.values()))} domains" in card
    assert [f"| Texts per class | {size} |" in card for size in sizes] == [True]
