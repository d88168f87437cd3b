"""What the doctor finds in texts, labels and vectors."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewtext import load_texts
from fewtext.doctor.classes import examine_classes
from fewtext.doctor.findings import OUTSIDE, Sheet
from fewtext.doctor.texts import examine_texts
from fewtext.doctor.tokens import estimate, examine_tokens
from fewtext.doctor.vectors import DOUBT, alike, examine_vectors, leave_one_out


def sheet(*rows, separator=None):
    """A sheet of (text, label) or (text, label, part)."""
    texts, labels, parts = zip(*((*row, "")[:3] for row in rows), strict=True)
    return Sheet(texts, labels, parts, tuple(range(len(rows))), separator=separator)


def sized(**sizes):
    """A sheet of so many different texts for each label."""
    return sheet(*((f"{label} {n}", label) for label, size in sizes.items() for n in range(size)))


def by_name(findings):
    return {finding.name: finding for finding in findings}


def rows(finding):
    return [tuple(place.row for place in example.places) for example in finding.examples]


def test_texts_that_are_the_same_are_told_apart_by_label_and_row_split():
    found = by_name(
        examine_texts(
            sheet(
                ("Where is  my card?", "card", "train"),
                ("where is my CARD?", "card", "train"),
                ("where is my card?", "fee", "train"),
                ("block it", "card", "train"),
                ("ﬁne", "fee", "train"),
                ("fine", "fee", "test"),
                ("no twin", "fee", "test"),
            )
        )
    )
    assert {name: (finding.severity, finding.count) for name, finding in found.items()} == {
        "one text, different labels": ("error", 1),
        "one text in several row splits": ("error", 1),
        "repeated texts": ("note", 1),
    }
    assert rows(found["one text, different labels"]) == [(0, 2)]
    assert rows(found["one text in several row splits"]) == [(4, 5)]
    assert rows(found["repeated texts"]) == [(0, 1)]
    assert found["repeated texts"].examples[0].note == "2 times, but for case, width or spaces"


def test_a_text_in_scope_and_out_of_it_is_a_contradiction():
    (finding,) = examine_texts(sheet(("hi", "greet"), ("hi", OUTSIDE), ("bye", "greet")))
    assert finding.severity == "error"
    assert rows(finding) == [(0, 1)]


def test_rows_that_a_quote_has_swallowed_stand_out():
    (finding,) = examine_texts(sheet(*((f"text {n}", "a") for n in range(9)), ("lines " * 200, "a")))
    assert rows(finding) == [(9,)]
    assert not examine_texts(sheet(*((f"text {n} " + "long " * 300, "a") for n in range(9))))


def test_small_and_uneven_classes():
    found = by_name(examine_classes(sized(big=50, small=4, single=1)))
    small = found["classes of fewer than 5 texts"]
    assert (small.severity, [example.note for example in small.examples]) == ("warning", ["single (1)", "small (4)"])
    assert found["classes 10 times smaller than the largest"].count == 2
    assert by_name(examine_classes(sized(a=3, b=3)))["classes of fewer than 5 texts"].severity == "note"
    assert not examine_classes(sized(big=50, small=5))


def test_one_class_is_too_few():
    assert by_name(examine_classes(sized(refund=9)))["only one class"].severity == "error"


def test_classes_that_are_on_one_side_only():
    both = sheet(
        *((f"{label} {part} {n}", label, part) for label, part in ("ay", "by", "az", "cz") for n in range(5)),
        *((f"outside {n}", OUTSIDE, "z") for n in range(5)),
    )
    parts = tuple("test" if part == "z" else "train" for part in both.parts)
    found = by_name(examine_classes(Sheet(both.texts, both.labels, parts, both.rows)))
    assert found["classes only in held-out texts"].severity == "error"
    assert [example.note for example in found["classes only in held-out texts"].examples] == ["c (5)"]
    assert [example.note for example in found["classes without held-out texts"].examples] == ["b (5)"]


@pytest.mark.parametrize(
    ("labels", "misspelt"),
    [
        ({"Card": 9, "card ": 9}, True),
        ({"card_not_arrived": 9, "card-not arrived": 9}, True),
        ({"refund": 50, "refunds": 5}, True),
        ({"refund": 50, "refnud": 5}, True),
        ({"card_not_arrived": 3, "card_not_arived": 1}, True),
        ({"card_not_arrived": 1, "card_not_arived": 2}, True),
        ({"card_not_arrived": 4, "card_not_arived": 2}, True),
        ({"card_not_arrived": 3, "card_not_arived": 2}, False),
        ({"card_not_arrived": 1, "card_not_arived": 1}, False),
        ({"card_not_arrived": 6, "card_not_arived": 3}, False),
        ({"refund": 4, "refunds": 1}, False),  # short names are alike by chance
        ({"refund": 9, "refunds": 9}, False),  # both are used: a distinction
        ({"transfer_1": 50, "transfer_2": 5}, False),
        ({"refund": 50, "refuse": 5}, False),
        ({"C++": 9, "C#": 9, "C": 9}, False),
        ({"-1": 9, "1": 9}, False),
        ({"on": 50, "no": 5}, False),
        ({"timer": 50, "time": 5}, False),
    ],
)
def test_labels_that_may_be_one(labels, misspelt):
    found = by_name(examine_classes(sized(**labels)))
    assert ("labels that may be one, misspelt" in found) == misspelt


def test_names_without_words():
    found = by_name(examine_classes(sized(label_1=9, label_2=9, B=9, refund=9)))
    (finding,) = found.values()
    assert [example.note for example in finding.examples] == ["B (9)", "label_1 (9)", "label_2 (9)"]
    assert not examine_classes(sized(refund=9, w2=9, yes=9))
    assert not examine_classes(sized(退=9, 卡=9))


@pytest.mark.parametrize("card", ["banking77", "clinc150", "hwu64", "liu54", "huffpost", "newsgroups20", "everyday"])
def test_good_labels_are_left_alone(card, data_root):
    whole = load_texts(card, data_root=data_root)
    uneven = np.random.default_rng(0).choice(len(whole), 3 * len(whole.classes), replace=False)
    for texts in (whole, *map(whole.at_most, (1, 2, 3, 5)), whole.rows(uneven)):
        labels = [texts.classes[number] for number in texts.labels]
        found = by_name(examine_classes(sheet(*zip(texts.texts, labels, strict=True))))
        assert not found.keys() & {"labels that may be one, misspelt", "label names without words"}


SEVERAL = [
    ("my card is late", "card;delivery"),
    ("My card is late", "delivery ; card"),
    ("block it", "card"),
    ("block  it", "card;loss"),
    ("no parcel", "delivery", "test"),
]


def test_each_of_several_labels_counts_for_its_text():
    several = sheet(*SEVERAL, separator=";")
    found = by_name(examine_texts(several))
    assert {name: rows(finding) for name, finding in found.items()} == {
        "one text, different labels": [(2, 3)],  # the other pair has the same labels, in another order
        "repeated texts": [(0, 1)],
    }
    found = by_name(examine_classes(several))
    small = ["loss (1)", "delivery (2)", "card (4)"]
    assert [example.note for example in found["classes of fewer than 5 texts"].examples] == small
    untested = ["card (4)", "loss (1)"]
    assert [example.note for example in found["classes without held-out texts"].examples] == untested
    assert (several + several).label_sets == several.label_sets * 2


def test_checks_that_need_one_label_are_left_out_with_a_reason():
    texts = [("a", "x;y"), ("b", "x"), ("c", "y;x"), ("d", "y;x")]
    axes = torch.eye(3)
    vectors = torch.stack([axes[0], axes[0] + 0.05 * axes[1], axes[0] + 0.05 * axes[2], axes[1]])
    found = by_name(examine_vectors(sheet(*texts, separator=";"), vectors))
    assert rows(found["nearly one text, different labels"]) == [(0, 1), (1, 2)]
    assert rows(found["nearly repeated texts"]) == [(0, 2)]
    assert rows(found["texts with several labels"]) == [(0,), (2,), (3,)]
    assert "are not looked for" in found["texts with several labels"].advice
    assert not found.keys() & {"labels to doubt", "classes that are easily confused"}


def test_rephrased_texts_are_sorted_by_what_is_wrong():
    first, second, third = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    near = 0.05 * F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    rest = -F.normalize(first + second + third, dim=0)
    vectors = torch.stack([first, first + near[0], second, second + near[1], third, third + near[2], rest, rest])
    found = by_name(
        examine_vectors(
            sheet(
                ("a", "x", "train"),
                ("a again", "y", "train"),
                ("b", "x", "train"),
                ("b again", "x", "test"),
                ("c", "y", "train"),
                ("c again", "y", "train"),
                ("d", "y", "train"),
                ("D ", "y", "train"),  # the same text, which is found without vectors
            ),
            7 * vectors,
        )
    )
    assert rows(found["nearly one text, different labels"]) == [(0, 1)]
    assert rows(found["nearly one text in two row splits"]) == [(2, 3)]
    assert rows(found["nearly repeated texts"]) == [(4, 5)]


def test_pairs_do_not_depend_on_the_blocks_they_are_found_in(monkeypatch):
    vectors = F.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[20:] = F.normalize(vectors[:20] + 0.01, dim=1)
    whole = alike(vectors)
    assert {(first, second) for first, second, _ in whole} >= {(row, row + 20) for row in range(20)}
    monkeypatch.setattr("fewtext.doctor.vectors.HELD", 70)
    assert [pair[:2] for pair in alike(vectors)] == [pair[:2] for pair in whole]


def test_leave_one_out_is_what_a_mean_without_the_text_says():
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(12, 6, generator=generator), dim=1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3])
    nearer, others = leave_one_out(vectors, labels, 4)
    for row in range(11):
        rest = labels.clone()
        rest[row] = -1
        cosines = torch.stack([F.normalize(vectors[rest == c].mean(0), dim=0) @ vectors[row] for c in range(4)])
        own = cosines[labels[row]].clone()
        cosines[labels[row]] = -2
        assert others[row] == cosines.argmax()
        assert nearer[row] == pytest.approx(float(cosines.max() - own), abs=1e-5)
    assert nearer[11] == -1  # the only text of its class


def test_planted_wrong_labels_rank_first(minilm, data_root):
    texts = load_texts("clinc150", split="train", data_root=data_root)
    texts = texts.only(texts.classes[:20]).at_most(10)
    vectors = F.normalize(torch.from_numpy(minilm.encode(texts.texts)), dim=1)
    generator = np.random.default_rng(0)
    wrong = generator.choice(len(texts), len(texts) // 20, replace=False)
    labels = texts.labels.copy()
    labels[wrong] = (labels[wrong] + generator.integers(1, 20, len(wrong))) % 20
    nearer, others = leave_one_out(vectors, torch.from_numpy(labels), 20)
    worst = nearer.argsort(descending=True)[: len(wrong)].tolist()
    assert len(set(worst) & set(wrong.tolist())) >= 0.8 * len(wrong)
    assert (others[wrong].numpy() == texts.labels[wrong]).mean() > 0.8
    named = by_name(examine_vectors(sheet(*zip(texts.texts, labels.astype(str), strict=True)), vectors))
    assert named["labels to doubt"].count == int((nearer >= DOUBT).sum())


def test_confusable_classes_come_with_their_most_similar_texts():
    axes = torch.eye(6)
    vectors = torch.stack([axes[0], axes[1], axes[0] + 0.1 * axes[3], axes[1] + 0.1 * axes[4], axes[2], axes[2]])
    names = ["mixed", "mixed", "blend", "blend", "clear", "clear"]
    found = by_name(examine_vectors(sheet(*((f"text {n}", name) for n, name in enumerate(names))), vectors))
    confused = found["classes that are easily confused"]
    assert [example.note.split(":")[0] for example in confused.examples] == ["blend, mixed"]
    assert "4 of 4 texts" in confused.examples[0].note
    assert [place.label for place in confused.examples[0].places] == ["blend", "mixed"]
    assert rows(confused)[0] in {(2, 0), (3, 1)}


def test_what_the_encoder_cuts_and_does_not_know(tiny):
    texts = ["where is my card", "wo ist meine card", "where " * 200]
    found = by_name(examine_tokens(sheet(*((text, "a") for text in texts)), tiny, tiny.tokenize(texts)))
    assert rows(found["texts that are cut"]) == [(2,)]
    assert "64 tokens are read, and the longest has 202" in found["texts that are cut"].advice
    assert rows(found["texts with unknown tokens"]) == [(1,)]
    assert found["texts with unknown tokens"].examples[0].note == "50% of its tokens"
    assert not examine_tokens(sheet((texts[0], "a")), tiny, tiny.tokenize(texts[:1]))


def test_estimates_grow_with_tokens_and_steps(tiny):
    costs = estimate(tiny, [10] * 100, [4] * 5, second=0.001, memory=1000, steps=40, ways=5, shots=2)
    assert costs.fit == pytest.approx(1.02)
    assert costs.predict == pytest.approx(10)
    assert costs.refine == pytest.approx(1.02 + 3.5 * 0.001 * 40 * 5 * 24)
    assert costs.refine_memory is not None
    assert costs.refine_memory > costs.memory == 1000
