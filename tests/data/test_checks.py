"""What users hand to a classifier is checked before anything is computed."""

import numpy as np
import pandas
import pytest

from fewtext.data.checks import checked_labels, checked_paraphrases, checked_texts
from fewtext.errors import DataError


def test_texts_of_any_iterable_become_a_list():
    assert checked_texts(text for text in ("a", "b")) == ["a", "b"]


def test_half_a_character_is_replaced_and_other_texts_stay_the_same():
    texts = ["caf\u00e9 \U0001f98a", "half \ud83d of it", "\udce9"]
    checked = checked_texts(texts)
    assert checked == [texts[0], "half ? of it", "?"]
    assert checked[0] is texts[0]
    for known in (texts, checked):
        assert checked_paraphrases({texts[1]: ["\ud83d other"]}, known) == {"half ? of it": ("? other",)}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"one string where several texts are expected. Write \[text\]"),
        ([], "no texts"),
        (["a", 5], "text 1: a text must be a string, got int"),
        (["a", None], "text 1: a text must be a string, got NoneType"),
        ([b"a"], "text 0: a text must be a string, got bytes"),
        (["a", " \n"], "text 1 is empty"),
    ],
)
def test_unusable_texts_are_refused(texts, message):
    with pytest.raises(DataError, match=message):
        checked_texts(texts)


@pytest.mark.parametrize("labels", [["b", "a"], [3, 1], [0.5, 1.5], [True, False]])
def test_labels_keep_their_values_and_type(labels):
    checked = checked_labels(labels)
    assert checked.tolist() == labels
    assert isinstance(checked.tolist()[0], type(labels[0]))


def test_an_array_of_labels_is_taken_as_it_is():
    assert checked_labels(np.array(["b", "a"])).tolist() == ["b", "a"]


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pandas.NA, pandas.NaT, "", "  "])
def test_a_missing_label_is_refused_with_its_row(missing):
    with pytest.raises(DataError, match="label 1 is missing"):
        checked_labels(["a", missing])


@pytest.mark.parametrize("label", [["a", "b"], {"a": 1}, np.array([1, 2])])
def test_a_label_that_is_no_scalar_is_refused_with_its_row(label):
    with pytest.raises(DataError, match=f"label 1 must be a string or a number, got {type(label).__name__}"):
        checked_labels(["a", label])


def test_strings_mixed_with_numbers_are_refused():
    with pytest.raises(DataError, match=r"labels of several types \(\['int', 'str'\]\)"):
        checked_labels(["a", 1])
