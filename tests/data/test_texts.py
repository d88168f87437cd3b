"""Labelled texts: what counts as the same text, numbering of classes, row splits and class splits."""

import numpy as np
import pandas
import pytest

from fewtext.data.texts import LabeledTexts, class_disjoint, normalise, readable
from fewtext.errors import DataError


@pytest.fixture
def texts():
    return LabeledTexts.of(
        ["block it", "lost it", "late fee", "tell me a joke", "blocked", "sing"],
        ["block", "lost", "fee", "oos", "block", "oos"],
        name="bank",
        out_of_scope_label="oos",
        partition=["train", "train", "test", "train", "test", "test"],
    )


def many(classes, per_class=3):
    names = [f"c{number:02}" for number in range(classes) for _ in range(per_class)]
    return LabeledTexts.of([f"text {row}" for row in range(len(names))], names, name="many")


@pytest.mark.parametrize(
    "other", ["  where is\tmy card\n", "Where IS my Card", "where\u00a0is my card", "ｗhere is my card"]
)
def test_case_space_and_compatibility_forms_do_not_make_another_text(other):
    assert normalise(other) == "where is my card"


def test_sharp_s_folds_like_its_capitals():
    assert normalise("Straße") == normalise("STRASSE")


def test_punctuation_makes_another_text():
    assert normalise("my card?") != normalise("my card")


@pytest.mark.parametrize(
    ("label", "words"),
    [("card_not-arrived", "card not arrived"), ("alarm/query", "alarm query"), ("rec.autos", "rec autos"), (7, "7")],
)
def test_a_label_reads_as_words(label, words):
    assert readable(label) == words


def test_classes_are_numbered_in_sorted_order(texts):
    assert texts.classes == ("block", "fee", "lost")
    assert texts.labels.tolist() == [0, 2, 1, 0]


def test_out_of_scope_texts_are_no_class(texts):
    assert texts.out_of_scope == ("tell me a joke", "sing")
    assert texts.texts == ("block it", "lost it", "late fee", "blocked")


def test_labels_of_any_type_become_names():
    assert LabeledTexts.of(["a", "b"], [10, 9]).classes == ("10", "9")


def test_rows_with_empty_texts_are_left_out_with_their_label_and_row_split():
    texts = LabeledTexts.of(["a", " \n", "b"], ["x", "y", "z"], partition=["train", "dev", "test"])
    assert (texts.texts, texts.classes, texts.partition) == (("a", "b"), ("x", "z"), ("train", "test"))


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (["a", "b"], ["x"], "2 texts but 1 labels"),
        (["a", 5], ["x", "y"], "row 1: a text must be a string, got int"),
        (["a", None], ["x", "y"], "row 1: a text must be a string, got NoneType"),
        (["a", "b"], ["x", None], "row 1: the label is missing"),
        (["a", "b"], [1.0, float("nan")], "row 1: the label is missing"),
        (["a", "b"], ["x", pandas.NA], "row 1: the label is missing"),
        (["a", "b"], ["x", "  "], "row 1: the label is missing"),
        (["a", "b"], ["x", ["y", "z"]], "row 1: the label must be a string or a number, got list"),
        ([" ", ""], ["x", "y"], "no text that is not empty"),
        ([], [], "no text that is not empty"),
    ],
)
def test_unusable_texts_and_labels_are_refused(rows, labels, message):
    with pytest.raises(DataError, match=f"mine.*{message}"):
        LabeledTexts.of(rows, labels, name="mine")


def test_a_description_stands_for_its_class_and_the_readable_name_for_the_others():
    texts = LabeledTexts.of(["a", "b"], ["late_fee", "lost_card"], descriptions={"late_fee": "paid too late"})
    assert [texts.words(0), texts.words(1)] == ["paid too late", "lost card"]


def test_chosen_rows_keep_only_their_classes_and_renumber_them(texts):
    chosen = texts.rows([2, 1])
    assert chosen.texts == ("late fee", "lost it")
    assert (chosen.classes, chosen.labels.tolist()) == (("fee", "lost"), [0, 1])
    assert chosen.partition == ("test", "train")


def test_a_row_split_has_its_own_texts_and_its_own_out_of_scope_texts(texts):
    part = texts.part("test")
    assert (part.texts, part.out_of_scope) == (("late fee", "blocked"), ("sing",))
    assert (part.classes, part.labels.tolist(), part.name) == (("block", "fee"), [1, 0], "bank/test")


def test_an_unknown_row_split_is_refused_with_the_known_ones(texts):
    with pytest.raises(DataError, match=r"no official 'dev' rows; the row splits are \['test', 'train'\]"):
        texts.part("dev")


def test_texts_without_row_splits_say_so():
    with pytest.raises(DataError, match="the row splits are none"):
        many(2).part("test")


def test_only_keeps_the_texts_of_the_classes_asked_for(texts):
    chosen = texts.only(["block"], "other")
    assert (chosen.texts, chosen.classes, chosen.labels.tolist()) == (("block it", "blocked"), ("block",), [0, 0])
    assert (chosen.name, chosen.partition) == ("other", ("train", "test"))


def test_only_refuses_a_class_that_is_not_there(texts):
    with pytest.raises(DataError, match=r"bank: no class 'nothing' \(1 of 2 missing\)"):
        texts.only(["fee", "nothing"])


def test_at_most_draws_so_many_of_each_class_and_all_of_smaller_ones():
    texts = LabeledTexts.of([f"t{row}" for row in range(9)], ["a"] * 6 + ["b"] * 3)
    assert np.bincount(texts.at_most(4).labels).tolist() == [4, 3]


def test_at_most_draws_none_but_not_fewer():
    assert len(many(2).at_most(0)) == 0
    outside = LabeledTexts.of(["a joke"], ["oos"], out_of_scope_label="oos").at_most(1)
    assert (len(outside), outside.out_of_scope) == (0, ("a joke",))
    with pytest.raises(DataError, match=r"many: -1 texts of each class cannot be drawn. Ask for 0 or more"):
        many(2).at_most(-1)


def test_at_most_depends_on_its_seed_only():
    texts = many(3, 20)
    assert texts.at_most(5, seed=1).texts == texts.at_most(5, seed=1).texts
    assert texts.at_most(5, seed=1).texts != texts.at_most(5, seed=2).texts


def test_at_most_keeps_each_text_with_its_label_in_the_order_of_the_rows():
    texts = many(4, 6)
    named = dict(zip(texts.texts, texts.labels, strict=True))
    fewer = texts.at_most(2)
    assert [named[text] for text in fewer.texts] == fewer.labels.tolist()
    assert list(fewer.texts) == sorted(fewer.texts, key=texts.texts.index)


def test_the_fingerprint_is_equal_for_equal_data_under_another_name():
    assert LabeledTexts.of(["a"], ["x"], name="one").fingerprint() == LabeledTexts.of(["a"], ["x"]).fingerprint()


@pytest.mark.parametrize(
    ("rows", "labels"), [(["a", "B"], ["x", "y"]), (["a", "b"], ["x", "z"]), (["b", "a"], ["y", "x"])]
)
def test_the_fingerprint_tells_changed_texts_labels_and_order(rows, labels):
    assert LabeledTexts.of(rows, labels).fingerprint() != LabeledTexts.of(["a", "b"], ["x", "y"]).fingerprint()


def test_a_lone_surrogate_has_a_fingerprint():
    assert LabeledTexts.of(["a\ud800"], ["x"]).fingerprint() != LabeledTexts.of(["a"], ["x"]).fingerprint()


@pytest.mark.parametrize("classes", [6, 7, 11, 40])
def test_a_random_deal_puts_every_class_in_exactly_one_part(classes):
    parts = class_disjoint(many(classes))
    assert sorted(label for part in parts.values() for label in part.classes) == list(many(classes).classes)
    assert min(len(part.classes) for part in parts.values()) >= 2


def test_a_random_deal_gives_half_of_the_classes_to_training():
    parts = class_disjoint(many(40))
    assert {key: len(part.classes) for key, part in parts.items()} == {"train": 20, "validation": 10, "test": 10}


def test_another_seed_deals_other_classes():
    deals = [class_disjoint(many(40), seed=seed)["test"].classes for seed in (0, 0, 1)]
    assert deals[0] == deals[1] != deals[2]


def test_five_classes_are_too_few_to_deal():
    with pytest.raises(DataError, match=r"5 classes cannot be dealt.*6 or more"):
        class_disjoint(many(5))


def test_given_groups_decide_and_empty_ones_are_left_out():
    parts = class_disjoint(many(3), {"train": ["c00", "c02"], "validation": [], "test": ["c01"]})
    assert {key: part.classes for key, part in parts.items()} == {"train": ("c00", "c02"), "test": ("c01",)}
    assert parts["test"].texts == ("text 3", "text 4", "text 5")
    assert parts["test"].name == "many/test"


def test_a_class_in_two_groups_is_refused():
    with pytest.raises(DataError, match="class 'c01' stands in train and in test"):
        class_disjoint(many(3), {"train": ["c00", "c01"], "test": ["c01"]})


def test_a_group_with_an_unknown_class_is_refused():
    with pytest.raises(DataError, match="no class 'c99'"):
        class_disjoint(many(3), {"train": ["c99"]})
