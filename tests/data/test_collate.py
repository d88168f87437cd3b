"""Episodes become tensors in which every text can be found again."""

import numpy as np
import pytest
import torch

from fewtext.data.collate import Collator, labels_of, ragged
from fewtext.data.sampler import Episode, EpisodeSampler, EpisodeSpec
from fewtext.data.texts import LabeledTexts
from fewtext.tensors import ABSENT


def tokenize(texts):
    return [[ord(letter) for letter in text] for text in texts]


def decode(tokens):
    """Return the texts of each task, None for absent rows."""
    found = iter(tokens.ids.tolist())
    return [
        ["".join(chr(next(found)) for _ in range(length)) if length else None for length in task]
        for task in tokens.lengths.tolist()
    ]


def words_of(episode, sources, rows):
    return [sources[episode.source].texts[row] for row in rows]


@pytest.fixture
def mixed(toy):
    """Episodes of several ways, drawn from two sources."""
    other = LabeledTexts.of([f"o{row} {'x' * row}" for row in range(20)], [f"other_{row % 4}" for row in range(20)])
    sources = [toy, other]
    sampler = EpisodeSampler(sources, EpisodeSpec(ways=range(2, 5), shots=2, queries=3))
    drawn = [sampler[i] for i in range(60)]
    assert {(ep.source, len(ep.classes)) for ep in drawn} == {
        (source, ways) for source in (0, 1) for ways in (2, 3, 4)
    }
    return sources, drawn, Collator(sources, tokenize)(drawn)


def test_texts_decode_back_in_their_task_and_order(mixed):
    sources, drawn, batch = mixed
    for part, tokens in (("support", batch.support.tokens), ("query", batch.query.tokens)):
        found = [[text for text in task if text is not None] for task in decode(tokens)]
        assert found == [words_of(episode, sources, getattr(episode, part)) for episode in drawn]


def test_labels_stand_beside_their_texts(mixed):
    _, drawn, batch = mixed
    for episode, support, query in zip(drawn, batch.support.labels, batch.query.labels, strict=True):
        assert support[support != ABSENT].tolist() == episode.support_labels.tolist()
        assert query[query != ABSENT].tolist() == episode.query_labels.tolist()


def test_rows_a_task_does_not_have_are_absent_at_its_end(mixed):
    _, drawn, batch = mixed
    width = max(len(episode.support) for episode in drawn)
    present = torch.tensor([[row < len(episode.support) for row in range(width)] for episode in drawn])
    assert torch.equal(batch.support.tokens.lengths > 0, present)
    assert torch.equal(batch.support.labels != ABSENT, present)
    assert torch.equal(batch.support.tokens.text_ids >= 0, present)


def test_the_class_mask_counts_the_ways_of_each_task(mixed):
    _, drawn, batch = mixed
    widest = max(len(episode.classes) for episode in drawn)
    masks = [[position < len(episode.classes) for position in range(widest)] for episode in drawn]
    assert batch.support.class_mask.tolist() == masks


def test_names_are_the_words_of_the_classes_of_each_task(mixed):
    sources, drawn, batch = mixed
    found = [[name for name in task if name is not None] for task in decode(batch.support.names)]
    assert found == [[sources[ep.source].words(number) for number in ep.classes] for ep in drawn]


def test_a_description_is_the_name_of_its_class():
    texts = LabeledTexts.of(["a", "b"], ["first_one", "second_one"], descriptions={"second_one": "told apart"})
    episode = Episode(0, *(np.array(rows) for rows in ([1, 0], [1, 0], [0, 1], [1, 0], [0, 1])))
    assert decode(Collator([texts], tokenize)([episode]).support.names) == [["told apart", "first one"]]


def test_without_names_every_class_has_an_absent_one(mixed):
    sources, drawn, batch = mixed
    names = Collator(sources, tokenize)(drawn, names=False).support.names
    assert names.lengths.tolist() == torch.zeros_like(batch.support.names.lengths).tolist()
    assert names.ids.numel() == 0
    assert set(names.text_ids.flatten().tolist()) == {-1}


def test_text_numbers_are_equal_exactly_for_equal_texts(mixed):
    _, _, batch = mixed
    pairs = set()
    for tokens in (batch.support.tokens, batch.query.tokens, batch.support.names):
        numbers = tokens.text_ids.flatten().tolist()
        texts = [text for task in decode(tokens) for text in task]
        pairs |= {(text, number) for text, number in zip(texts, numbers, strict=True) if text is not None}
    assert len({text for text, _ in pairs}) == len({number for _, number in pairs}) == len(pairs)


def test_text_numbers_stay_the_same_from_batch_to_batch(toy):
    sampler, collator = EpisodeSampler(toy, EpisodeSpec(2, 2, 2)), Collator([toy], tokenize)
    first = collator([sampler[0]])
    collator([sampler[1], sampler[2]])
    again = collator([sampler[0]])
    assert again.support.tokens.text_ids.tolist() == first.support.tokens.text_ids.tolist()


def test_each_text_is_tokenised_once(toy):
    seen = []
    sampler = EpisodeSampler(toy, EpisodeSpec(4, 2, 3))
    collator = Collator([toy], lambda texts: (seen.extend(texts), tokenize(texts))[1])
    for number in range(6):
        collator([sampler[number], sampler[number + 1]])
    assert len(seen) == len(set(seen)) > 0


def test_a_zero_shot_batch_has_no_support_rows_but_names_and_queries(toy):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=3, shots=0, queries=2))
    batch = Collator([toy], tokenize)([sampler[0], sampler[1]])
    assert batch.support.tokens.lengths.shape == batch.support.labels.shape == (2, 0)
    assert batch.support.tokens.ids.numel() == 0
    assert (batch.support.names.lengths > 0).tolist() == [[True] * 3] * 2
    assert batch.query.labels.shape == (2, 6)


def test_ragged_rows_without_text_numbers_are_of_unknown_text():
    tokens = ragged([[[1, 2], [3]], [[4]]])
    assert tokens.ids.tolist() == [1, 2, 3, 4]
    assert tokens.lengths.tolist() == [[2, 1], [1, 0]]
    assert tokens.text_ids.tolist() == [[-1, -1], [-1, -1]]


def test_labels_of_shorter_tasks_are_filled_with_absent():
    assert labels_of([[0, 1, 2], np.array([1])]).tolist() == [[0, 1, 2], [1, ABSENT, ABSENT]]


def test_every_number_is_a_long(mixed):
    _, _, batch = mixed
    tensors = (
        *batch.support.tokens,
        *batch.support.names,
        *batch.query.tokens,
        batch.support.labels,
        batch.query.labels,
    )
    assert {tensor.dtype for tensor in tensors} == {torch.long}
