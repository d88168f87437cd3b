"""Texts of any language and length become tokens in bounded time, and what gets lost is counted."""

import time

import numpy as np
import pytest
from conftest import WORDS
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from fewtext.errors import DataError
from fewtext.nn.recipe import Recipe
from fewtext.nn.tokens import BATCH, Reader, TokenReport, by_length
from fewtext.nn.windows import MOST

CHINESE = "我的卡在哪里？我还没有收到它。"  # where is my card? I have not received it yet.


def pieces(encoder, text):
    (ids,) = encoder.tokenize([text])
    return encoder.tokenizer.convert_ids_to_tokens(ids)[1:-1]


@pytest.fixture
def reader():
    """Reads at most 12 tokens of texts that are made of the characters of `CHINESE`, each of them a token."""
    vocabulary = {piece: n for n, piece in enumerate(["[CLS]", "[SEP]", "[UNK]", *dict.fromkeys(CHINESE)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    return Reader(wrapped, Recipe(), 12)


def test_chinese_is_a_token_for_each_character_and_half_unknown_to_an_english_encoder(minilm):
    unknown = dict.fromkeys("卡在哪还没收到它", "[UNK]")
    assert pieces(minilm, CHINESE) == [unknown.get(character, character) for character in CHINESE]
    report = minilm.report([CHINESE])
    assert (report.tokens, report.unknown, report.longest) == (15, 8, 17)
    assert "53.3 % of the tokens are unknown" in str(report)


def test_different_chinese_words_are_the_same_to_an_english_encoder(minilm):
    card, bank = "卡丢", "银到"
    assert minilm.tokenize([card]) == minilm.tokenize([bank])
    assert minilm.report([card, bank]).unknown == 4


def test_german_loses_its_umlauts_and_its_compounds_and_nothing_is_unknown(minilm):
    assert pieces(minilm, "Überweisung") == pieces(minilm, "uberweisung") == ["uber", "##wei", "##sun", "##g"]
    assert pieces(minilm, "Straßenbahnhaltestelle") == "st ##raße ##nb ##ah ##nh ##al ##test ##elle".split()
    assert pieces(minilm, "groß") != pieces(minilm, "gross")
    report = minilm.report(["Wo bleibt meine Überweisung?", "Straßenbahnhaltestelle"])
    assert (report.tokens, report.unknown) == (11 + 8, 0)


def test_a_script_known_by_its_letters_alone_shows_in_tokens_and_not_in_unknown_ones(minilm):
    report = minilm.report(["где моя карта"])
    assert (report.tokens, report.unknown) == (3 + 3 + 5, 0)


def test_a_word_of_more_than_a_hundred_letters_is_one_unknown_token(minilm):
    assert [minilm.report(["x" * length]).unknown for length in (100, 101)] == [0, 1]


def test_a_tokenizer_of_the_script_knows_all_of_it_and_nothing_else(reader):
    (ids,) = reader.tokenize([CHINESE[:10]])
    assert reader.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", *CHINESE[:10], "[SEP]"]
    assert reader.report([CHINESE]).unknown == 0
    assert reader.report(["card"]).unknown == 4


def test_bytes_are_never_unknown():
    report = Reader(ByT5Tokenizer(), Recipe(), 64).report([CHINESE])
    assert (report.tokens, report.unknown) == (3 * len(CHINESE), 0)


def test_windows_put_together_again_are_the_text(reader):
    text = CHINESE * 7
    (found,) = reader.windows([text])
    body = "".join(reader.tokenizer.convert_ids_to_tokens(found[0][1:-1]))
    for ids in found[1:]:
        window = "".join(reader.tokenizer.convert_ids_to_tokens(ids[1:-1]))
        body += window[max(n for n in range(len(window) + 1) if body.endswith(window[:n])) :]
    assert body == text


@pytest.mark.parametrize(("length", "cut"), [(9, 0), (10, 0), (11, 1), (150, 1)])
def test_a_text_is_cut_exactly_where_it_is_reported(reader, length, cut):
    text = (CHINESE * 10)[:length]
    (ids,) = reader.tokenize([text])
    assert len(ids) == min(length + 2, 12)
    report = reader.report([text, "我"])
    assert report == TokenReport(texts=2, truncated=cut, tokens=length + 1, unknown=0, longest=length + 2, limit=12)


@pytest.mark.parametrize(("length", "cut"), [(11, 0), (MOST * 10, 0), (MOST * 10 + 1, 1)])
def test_windows_leave_out_something_exactly_where_it_is_reported(reader, length, cut):
    text = "".join("我的卡在"[n % 4] for n in range(length))
    (found,) = reader.windows([text])
    assert (sum(len(ids) - 2 for ids in found) < length) == cut
    report = reader.report([text], windows=True)
    assert (report.truncated, report.limit) == (cut, MOST * 10 + 2)


def test_characters_that_are_not_looked_at_count_as_cut(minilm):
    spaces = " " * (minilm.reader.max_characters + 1)
    assert minilm.report([spaces]).truncated == 1
    assert minilm.report([spaces], windows=True).truncated == 0
    assert minilm.report([MOST * spaces], windows=True).truncated == 1


def test_prompt_and_special_tokens_are_not_among_the_tokens(tiny):
    asking = Reader(tiny.tokenizer, Recipe(prompt="where is my "), 64)
    report = asking.report(["card", "loan xyz"])
    assert (report.tokens, report.unknown, report.longest) == (3, 1, 7)


@given(st.lists(st.text(WORDS[0] + " ?", max_size=80)), st.integers(0, 5))
def test_reports_of_parts_add_up_to_that_of_all(tiny_reader, texts, cut):
    both = tiny_reader.report(texts[:cut]) + tiny_reader.report(texts[cut:])
    assert both == tiny_reader.report(texts)


@pytest.fixture(scope="module")
def tiny_reader(tiny_folder):
    return Reader(PreTrainedTokenizerFast.from_pretrained(tiny_folder), Recipe(), 8)


def test_more_texts_than_are_read_at_once_are_all_counted(tiny_reader):
    report = tiny_reader.report(["card xyz", "loan"] * BATCH)
    expected = TokenReport(texts=2 * BATCH, truncated=0, tokens=3 * BATCH, unknown=BATCH, longest=4, limit=8)
    assert report == expected


def test_an_unknown_token_that_is_a_special_token_too_is_none_of_the_text(tiny_folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_folder, unk_token="[SEP]")
    assert Reader(tokenizer, Recipe(), 8).report(["card", "loan"]).unknown == 0


def test_a_report_is_a_sentence():
    report = TokenReport(texts=3080, truncated=12, tokens=50_000, unknown=200, longest=900, limit=256)
    assert str(report) == (
        "12 of 3,080 texts are longer than 256 tokens and not read in full; "
        "0.4 % of the tokens are unknown to the encoder"
    )


def test_a_report_of_nothing_has_zeros(minilm):
    report = minilm.report([])
    assert report == TokenReport(texts=0, truncated=0, tokens=0, unknown=0, longest=0, limit=256)
    assert "0.0 %" in str(report)


def test_what_is_not_a_string_is_a_data_error(tiny):
    with pytest.raises(DataError, match="text 1: a text must be a string, got float"):
        tiny.report(["card", float("nan")])


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("text", ["card " * 2_000_000, "\u4e2d" * 10_000_000], ids=["words", "han"])
def test_a_text_of_ten_million_characters_is_reported_quickly(minilm, text, windows):
    start = time.perf_counter()
    assert minilm.report([text], windows=windows).truncated == 1
    assert time.perf_counter() - start < 1


@given(st.lists(st.integers(0, 40), max_size=50), st.integers(1, 100))
def test_groups_by_length_hold_each_text_once_and_shorter_ones_first(lengths, most):
    groups = list(by_length(np.array(lengths, dtype=np.int64), most))
    order = [row for group in groups for row in group]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths)
    assert all(len(group) <= max(1, most // max(1, lengths[group[0]])) for group in groups)
