"""Supports: what users give is checked, and every edit returns new ones."""

import numpy as np
import pytest

from fewtext.classifier.supports import Supports, changes
from fewtext.errors import DataError

TEXTS = ["where is my card", "Block the card", "flight is late", "pay the bill", "block  the CARD"]
LABELS = ["card", "card", "flight", "bill", "card"]
SETS = [["card"], ("card", "loss"), {"flight"}, [], np.array(["bill", "loss"])]


@pytest.fixture
def one():
    return Supports.of(TEXTS, LABELS, descriptions={"bill": "a bill to pay"})


@pytest.fixture
def many():
    return Supports.of(TEXTS, SETS)


def pairs(supports):
    return list(zip(supports.texts, supports.labels, strict=True))


def test_classes_are_those_of_the_texts_or_those_given(one):
    assert one.classes == ("bill", "card", "flight")
    assert not one.several
    assert one.numbers().tolist() == [1, 1, 2, 0, 1]
    assert one.shots() == [1, 3, 1]
    more = Supports.of(TEXTS, LABELS, classes=["flight", "loan", "card", "bill"])
    assert more.classes == ("bill", "card", "flight", "loan")
    assert more.shots() == [1, 3, 1, 0]
    assert Supports.of([], [], classes=["b", "a"]).classes == ("a", "b")


def test_lists_tuples_sets_and_arrays_are_several_labels(many):
    assert many.several
    assert many.classes == ("bill", "card", "flight", "loss")
    assert many.labels[1] == {"card", "loss"}
    assert many.labels[3] == frozenset()
    assert many.numbers().tolist() == [
        [False, True, False, False],
        [False, True, False, True],
        [False, False, True, False],
        [False, False, False, False],
        [True, False, False, True],
    ]
    assert many.shots() == [1, 2, 1, 2]


def test_words_are_descriptions_names_or_nothing(one):
    assert one.words(True) == ["a bill to pay", "card", "flight"]
    assert one.words(False) == ["a bill to pay", "", ""]
    assert Supports.of(TEXTS[:2], ["card_not-arrived", "a/b"]).words(True) == ["a b", "card not arrived"]
    assert Supports.of(TEXTS[:2], [1, 2]).words(True) == ["", ""]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": LABELS[:2]}, "5 texts but 2 labels"),
        ({"labels": [*LABELS[:4], ["card"]]}, "label 0 is no list, others are"),
        ({"labels": [[None], *SETS[1:]]}, "a label of text 0 is missing"),
        ({"labels": ["card"] * 5}, "only one class, 'card'"),
        ({"labels": [[]] * 5}, "no class"),
        ({"classes": ["card", "flight"]}, "label 'bill' is none of the classes"),
        ({"descriptions": {"loan": "money lent"}}, "no class 'loan'"),
        ({"descriptions": {"bill": " "}}, "description of 'bill' is empty"),
        ({"out_of_scope": ["fine", ""]}, "text 1 is empty"),
        ({"out_of_scope": "one string"}, "one string"),
        ({"texts": "one string"}, "one string"),
    ],
)
def test_what_cannot_be_is_explained(given, message):
    with pytest.raises(DataError, match=message):
        Supports.of(**{"texts": TEXTS, "labels": LABELS} | given)


def test_a_class_with_neither_texts_nor_words_is_refused():
    with pytest.raises(DataError, match="class 'loan' has no text and no words"):
        Supports.of(TEXTS, LABELS, classes=[*LABELS, "loan"]).words(False)


def test_a_text_is_found_as_written_or_else_but_for_case_and_spaces(one):
    assert one.place("Block the card") == [1]
    assert one.place("ＢＬＯＣＫ the card") == [1, 4]
    for wrong, message in (("block", "no text 'block'"), ("", "the text is empty"), (None, "got NoneType")):
        with pytest.raises(DataError, match=message):
            one.place(wrong)


def test_texts_are_added_and_removed(one):
    more = one.added(["renew the loan"], ["loan"])
    assert pairs(more) == [*pairs(one), ("renew the loan", "loan")]
    assert more.classes == ("bill", "card", "flight", "loan")
    assert pairs(more.without(["renew the loan"])) == pairs(one)
    assert more.without(["renew the loan"]).classes == one.classes
    assert one.without(["pay the bill", "flight is late"]).classes == ("bill", "card")  # the bill is described
    assert one.without(["block the card "]).texts == ("where is my card", "flight is late", "pay the bill")


@pytest.mark.parametrize(
    ("labels", "message"), [([["card"]], "labels are lists"), ([1], "several types"), (["a", "b"], "1 texts but 2")]
)
def test_only_labels_of_the_kind_that_is_there_are_added(one, labels, message):
    with pytest.raises(DataError, match=message):
        one.added(["high bill"], labels)


def test_plain_labels_are_not_added_to_lists(many):
    with pytest.raises(DataError, match="labels are no lists"):
        many.added(["high bill"], ["bill"])


def test_a_forgotten_text_is_gone_however_it_was_written():
    supports = Supports.of(TEXTS, LABELS, out_of_scope=["BLOCK the card", "book a room"])
    left, ways = supports.forgotten("Block the card")
    assert sorted(ways) == ["BLOCK the card", "Block the card", "block  the CARD"]
    assert left.texts == ("where is my card", "flight is late", "pay the bill")
    assert left.out_of_scope == ("book a room",)
    left, ways = supports.forgotten("book a room")
    assert (left.texts, left.out_of_scope, ways) == (tuple(TEXTS), ("BLOCK the card",), ["book a room"])
    with pytest.raises(DataError, match="no text 'nothing'"):
        supports.forgotten("nothing")


def test_a_text_keeps_its_place_when_it_gets_another_label(one, many):
    moved = one.relabelled("BLOCK THE CARD", "loss")
    assert moved.texts == one.texts
    assert moved.labels == ("card", "loss", "flight", "bill", "loss")
    assert one.relabelled("flight is late", "card").classes == ("bill", "card")
    assert one.relabelled("pay the bill", "card").classes == one.classes  # described
    assert many.relabelled("flight is late", []).classes == ("bill", "card", "loss")
    with pytest.raises(DataError, match="is missing"):
        one.relabelled("flight is late", None)


def test_classes_are_renamed_and_merged(one, many):
    renamed = one.renamed({"bill": "invoice", "card": "plastic"})
    assert renamed.classes == ("flight", "invoice", "plastic")
    assert renamed.labels == ("plastic", "plastic", "flight", "invoice", "plastic")
    assert renamed.descriptions == {"invoice": "a bill to pay"}
    assert many.renamed({"loss": "card"}).labels[1] == {"card"}
    with pytest.raises(DataError, match="no class 'loan'"):
        one.renamed({"loan": "card"})
    with pytest.raises(DataError, match="several types"):
        one.renamed({"card": 1})


def test_of_merged_classes_the_one_that_keeps_its_name_keeps_its_words():
    for order in (("bill", "card"), ("card", "bill")):
        own = Supports.of(TEXTS, LABELS, descriptions={label: f"the {label}" for label in order})
        assert own.renamed({"bill": "card"}).descriptions == {"card": "the card"}


def test_a_class_goes_with_its_texts_and_its_words(one, many):
    left = one.without_class("bill")
    assert left.classes == ("card", "flight")
    assert "pay the bill" not in left.texts
    assert not left.descriptions
    left = many.without_class("card")
    assert left.texts == tuple(TEXTS[1:])  # a text with another label stays, and one with none
    assert left.labels[0] == {"loss"}
    with pytest.raises(DataError, match=r"no class 'loan'\. Classes: bill, card, flight"):
        one.without_class("loan")


def test_a_class_comes_with_words(one):
    own = one.described("loan", "money lent")
    assert own.classes == ("bill", "card", "flight", "loan")
    assert own.words(True)[-1] == "money lent"
    assert one.described("loan", None).words(True)[-1] == "loan"


def test_no_edit_changes_what_was_there(one):
    before = (one.texts, one.labels, one.classes, dict(one.descriptions))
    one.added(["x y"], ["loan"]).described("fee", "a fee").renamed({"bill": "loan"}).without(["x y"])
    assert (one.texts, one.labels, one.classes, dict(one.descriptions)) == before


def test_changed_texts_are_counted(one):
    assert changes(one, one) == 0
    assert changes(one, one.added(["a b", "c d"], ["card", "loan"])) == 2
    assert changes(one, one.without(["pay the bill"])) == 1
    assert changes(one, one.relabelled("pay the bill", "card")) == 1
    assert changes(one, one.added(["a b"], ["card"]).without(["pay the bill", "flight is late"])) == 2
