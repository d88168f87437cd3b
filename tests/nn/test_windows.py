"""Windows cover a long text, none is like no text of its own, and their mean is the text's vector."""

import json
import shutil
import time
from itertools import pairwise
from string import ascii_lowercase

import numpy as np
import pytest
from conftest import save_tiny_encoder
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, ModernBertConfig, PreTrainedTokenizerFast

from fewtext import Encoder
from fewtext.errors import DataError
from fewtext.nn.recipe import Recipe
from fewtext.nn.tokens import Reader
from fewtext.nn.windows import MOST, pool_windows, spread, windows

SHORT = ["where is my card", "refund", "slow internet"]
WORDS = "where is my card it has not arrived yet please block lost stolen refund money back".split()
LONG = " ".join(WORDS[(n * n + n // 16) % 16] for n in range(200))  # of one token each; the tiny encoder takes 64


@pytest.fixture
def asking(tiny_folder, tmp_path):
    """The tiny encoder with a prompt of three tokens and vectors of length 1."""
    folder = shutil.copytree(tiny_folder, tmp_path / "encoder")
    (folder / "modules.json").write_text(json.dumps([{"type": "Pooling"}, {"type": "Normalize"}]))
    settings = {"prompts": {"ask": "where is my "}, "default_prompt_name": "ask"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return Encoder.from_pretrained(folder)


def sentencepiece():
    """A tokenizer that puts a space before each word, as those of XLM-RoBERTa's family do."""
    pieces = ["<s>", "</s>", "<unk>", "▁", "▁query", ":", *(f"▁{word}" for word in WORDS), "s"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<s>"
    )


@given(total=st.integers(0, 3000), size=st.integers(1, 300))
def test_windows_lie_evenly_and_without_gaps_as_long_as_they_suffice(total, size):
    starts = spread(total, size)
    steps = [later - former for former, later in pairwise(starts)]
    assert starts[0] == 0
    assert starts[-1] == max(0, total - size)
    assert max(steps, default=0) - min(steps, default=0) <= 1
    assert len(starts) <= MOST
    assert total > MOST * size or max(steps, default=0) <= size


@given(lengths=st.lists(st.integers(1, 60), max_size=80), size=st.integers(1, 64))
def test_every_token_is_in_a_window_as_far_as_the_windows_suffice(lengths, size):
    words = [word for word, length in enumerate(lengths) for _ in range(length)]
    tokens = list(range(len(words)))[: MOST * size]
    pieces = windows(tokens, size, words[: MOST * size])
    assert {token for piece in pieces for token in piece} == set(tokens)
    assert max(map(len, pieces)) <= size
    assert len(pieces) <= MOST


def test_windows_of_a_longer_text_are_its_start_its_end_and_places_between():
    pieces = windows(list(range(10_000)), 10)
    assert len(pieces) == MOST
    assert pieces[0] == list(range(10))
    assert pieces[-1] == list(range(9_990, 10_000))


def test_a_window_begins_with_a_word_where_there_is_room():
    tokens, words = list(range(90)), [n // 3 for n in range(90)]
    assert [piece[0] for piece in windows(tokens, 20)] == [0, 17, 35, 52, 70]
    assert [piece[0] for piece in windows(tokens, 20, words)] == [0, 18, 36, 54, 72]
    assert [piece[0] for piece in windows(tokens, 18, words)] == [0, 18, 36, 54, 72]
    assert [piece[0] for piece in windows(tokens, 20, [0] * 90)] == [0, 17, 35, 52, 70]


def test_the_mean_is_weighted_by_tokens_and_a_single_window_stays_as_it_is():
    vectors = np.array([[1, 0], [0, 1], [0.3, 0.4]], dtype=np.float32)
    pooled = pool_windows(vectors, np.array([30, 20, 7]), np.array([2, 1]), normalise=False)
    np.testing.assert_allclose(pooled[0], [0.75, 0.25])  # the first window counts twice
    assert np.array_equal(pooled[1], vectors[2])
    unit = pool_windows(vectors, np.array([30, 20, 7]), np.array([2, 1]), normalise=True)
    np.testing.assert_allclose(unit[0], np.array([3, 1]) / np.sqrt(10), rtol=1e-6)
    assert np.array_equal(unit[1], vectors[2])
    assert unit.dtype == np.float32


def test_texts_that_fit_keep_their_vectors(tiny):
    fitting = [*SHORT, *(" ".join(LONG.split()[:length]) for length in (40, 61, 62))]
    together = tiny.encode([LONG, *fitting, LONG], windows=True)
    np.testing.assert_allclose(together[1:-1], tiny.encode(fitting), rtol=0, atol=1e-6)
    assert np.array_equal(tiny.encode(SHORT, windows=True), tiny.encode(SHORT))


def test_a_long_text_has_the_mean_of_texts_made_of_its_windows_and_the_first_counts_twice(tiny):
    words, size = LONG.split(), tiny.max_length - 2
    parts = [" ".join(words[start : start + size]) for start in spread(200, size)]
    assert len(parts) == 4
    mean = tiny.encode([parts[0], *parts]).mean(axis=0)
    np.testing.assert_allclose(tiny.encode([LONG], windows=True)[0], mean, rtol=0, atol=1e-5)
    assert np.abs(tiny.encode([LONG])[0] - mean).max() > 0.01


def test_the_last_word_counts_in_windows_and_not_without(tiny):
    texts = [LONG + " refund", LONG + " card"]
    cut, whole = tiny.encode(texts), tiny.encode(texts, windows=True)
    assert np.array_equal(cut[0], cut[1])
    assert np.abs(whole[0] - whole[1]).max() > 1e-3


def test_vectors_of_length_1_stay_so(asking):
    vectors = asking.encode([LONG, "card"], windows=True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_each_window_has_prompt_and_special_tokens(asking, tiny):
    (found,) = asking.reader.windows([LONG])
    (ask,) = tiny.tokenize(["where is my"])
    assert all(ids[:4] == ask[:4] and ids[-1] == ask[-1] and len(ids) == 64 for ids in found)
    (first, *_), last = found, found[-1]
    (whole,) = tiny.tokenizer([LONG])["input_ids"]
    assert (first[4:-1], last[4:-1]) == (whole[1:60], whole[-60:-1])


def test_a_prompt_ends_where_the_text_begins_though_a_space_belongs_to_the_next_word():
    reader = Reader(sentencepiece(), Recipe(prompt="query: "), 16)
    (found,) = reader.windows([LONG.replace("refund", "refunds")])
    names = [reader.tokenizer.convert_ids_to_tokens(ids) for ids in found]
    assert len(names) > 4
    assert all(own[:3] == ["<s>", "▁query", ":"] and own[-1] == "</s>" and len(own) <= 16 for own in names)
    assert all(own[3].startswith("▁") and own[3] != "▁query" for own in names)


def test_a_tokenizer_in_python_has_windows_too():
    reader = Reader(ByT5Tokenizer(), Recipe(), 15)
    (found,) = reader.windows([ascii_lowercase])
    assert [reader.tokenizer.decode(ids) for ids in found] == ["abcdefghijklmn</s>", "mnopqrstuvwxyz</s>"]


def test_windows_suit_a_model_that_no_texts_share_a_row_of(tmp_path):
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = ModernBertConfig(**settings, max_position_embeddings=24)
    encoder = Encoder.from_pretrained(save_tiny_encoder(tmp_path / "encoder", config))
    text = " ".join(LONG.split()[:44])
    parts = encoder.encode([" ".join(text.split()[:22]), " ".join(text.split()[22:])])
    np.testing.assert_allclose(encoder.encode([text], windows=True)[0], (2 * parts[0] + parts[1]) / 3, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["card " * 2_000_000, "x" * 10_000_000, "\u4e2d" * 10_000_000, " " * 10_000_000],
    ids=["words", "one", "han", "spaces"],
)
def test_ten_million_characters_become_few_windows_quickly(minilm, text):
    start = time.perf_counter()
    (found,) = minilm.reader.windows([text])
    assert time.perf_counter() - start < 1
    assert len(found) == MOST
    assert all(len(ids) <= minilm.max_length for ids in found)


def test_start_and_end_of_a_huge_text_are_read(tiny):
    (found,) = tiny.reader.windows(["refund " + "card " * 20_000 + "loan"])
    names = [tiny.tokenizer.convert_ids_to_tokens(ids) for ids in found]
    assert names[0][1] == "refund"
    assert len(names) == MOST


def test_no_texts_and_no_strings(tiny):
    assert tiny.encode([], windows=True).shape == (0, 16)
    with pytest.raises(DataError, match="text 1: a text must be a string"):
        tiny.encode(["card", 3], windows=True)
