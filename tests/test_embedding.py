"""Embeddings are computed once, kept as long as they are right, and forgotten on demand."""

import gc
import weakref

import numpy as np
import pytest
import torch

from fewtext import Encoder, Lora
from fewtext import embedding as own
from fewtext.data.collate import ragged
from fewtext.embedding import forget, held, remembered, unit

TEXTS = ["where is my card", "flight is late", "pay the bill"]


@pytest.fixture
def seen(tiny, monkeypatch):
    """The texts that were encoded."""
    found, encode = [], tiny.encode
    monkeypatch.setattr(tiny, "encode", lambda texts, **given: found.extend(texts) or encode(texts, **given))
    return found


def test_embeddings_have_length_one(tiny):
    vectors = unit(tiny, TEXTS)
    assert vectors.shape == (3, tiny.dimension)
    expected = tiny.encode(TEXTS)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_each_text_is_encoded_once(tiny, seen):
    first = remembered(tiny, [TEXTS[0], TEXTS[1], TEXTS[0]])
    again = remembered(tiny, [TEXTS[2], TEXTS[1], TEXTS[0]])
    assert sorted(seen) == sorted(TEXTS)
    assert torch.equal(again[1:], first[:2].flip(0))
    torch.testing.assert_close(again, unit(tiny, [TEXTS[2], TEXTS[1], TEXTS[0]]), atol=1e-6, rtol=0)


def test_windows_are_remembered_apart(tiny, seen):
    long = " ".join(TEXTS * 30)
    whole, cut = remembered(tiny, [long], windows=True), remembered(tiny, [long])
    assert seen == [long, long]
    assert (whole - cut).abs().max() > 1e-3


def test_changed_weights_need_new_embeddings(tiny):
    before = remembered(tiny, TEXTS)
    with torch.no_grad():
        next(tiny.parameters()).mul_(1.1)
    after = remembered(tiny, TEXTS)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, unit(tiny, TEXTS), atol=1e-6, rtol=0)


def test_what_was_not_used_for_longest_goes_first(tiny, seen, monkeypatch):
    monkeypatch.setattr(own, "BYTES", 2 * 4 * tiny.dimension)
    remembered(tiny, TEXTS[:2])
    remembered(tiny, TEXTS[:1])
    remembered(tiny, TEXTS[2:])
    remembered(tiny, [TEXTS[0], TEXTS[2]])
    assert seen == TEXTS
    remembered(tiny, TEXTS[1:2])
    assert seen == [*TEXTS, TEXTS[1]]


def test_some_or_all_are_forgotten(tiny, seen):
    remembered(tiny, TEXTS)
    remembered(tiny, TEXTS[:1], windows=True)
    forget(tiny, TEXTS[:1])
    remembered(tiny, TEXTS)
    remembered(tiny, TEXTS[:1], windows=True)
    assert seen == [*TEXTS, *TEXTS[:1] * 3]
    forget(tiny)
    remembered(tiny, TEXTS)
    assert seen[-3:] == TEXTS
    forget(tiny, ["never seen"])


def test_every_encoder_forgets_where_that_is_asked_for(tiny, tiny_lora, seen):
    for encoder in (tiny, tiny_lora):
        remembered(encoder, TEXTS)
    forget(tiny_lora, TEXTS[:1])
    remembered(tiny, TEXTS)
    assert seen == TEXTS
    forget(tiny_lora, TEXTS[:1], everywhere=True)
    remembered(tiny, TEXTS)
    assert seen == [*TEXTS, TEXTS[0]]


def test_frozen_layers_forget_too(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2, from_layer=1))
    encoder(ragged([encoder.tokenize(TEXTS)]))
    assert encoder.prefix.used
    forget(encoder, TEXTS[:1])
    assert not encoder.prefix.used


def test_the_memory_dies_with_its_encoder(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder)
    remembered(encoder, TEXTS)
    memory = weakref.ref(own._MEMORIES[encoder])
    del encoder
    gc.collect()
    assert memory() is None


def test_held_texts_are_encoded_once_and_then_forgotten(tiny, seen):
    remembered(tiny, TEXTS[:1])
    with held(tiny, TEXTS):
        for _ in range(2):
            remembered(tiny, TEXTS, keep=False)
    assert sorted(seen) == sorted(TEXTS)
    remembered(tiny, TEXTS, keep=False)
    assert sorted(seen) == sorted([*TEXTS, *TEXTS[1:]]), "what was remembered before stays, the rest does not"


def test_what_is_too_large_is_not_held(tiny, seen, monkeypatch):
    monkeypatch.setattr(own, "BYTES", 2 * 4 * tiny.dimension)
    remembered(tiny, TEXTS[:1])
    with held(tiny, TEXTS[1:]):
        assert seen == TEXTS[:1]
    remembered(tiny, TEXTS[:1])
    assert seen == TEXTS[:1]
