"""Attention over texts end to end reads what attention over each text alone reads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from fewtext.nn.attention import attention
from fewtext.nn.layout import end_to_end

HEADS, SIZE = 3, 4


def projections(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, HEADS, sum(lengths), SIZE, generator=generator, dtype=torch.float64) for _ in range(3)]


def of_runs(lengths, keep_order, projected):
    """Return what each token reads, in the order of the texts."""
    layout = end_to_end(torch.arange(sum(lengths)), torch.tensor([lengths]), keep_order=keep_order)
    placed = [torch.empty_like(part).index_copy(2, layout.flat, part) for part in projected]
    read, _ = attention(None, *placed, None, runs=layout.runs)
    return read[0][layout.flat]


def one_by_one(lengths, projected):
    texts = zip(*(part.split(lengths, dim=2) for part in projected), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*text)[0].transpose(0, 1) for text in texts])


@pytest.mark.parametrize("keep_order", [False, True])
@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any))
def test_each_text_reads_itself_only(lengths, keep_order):
    projected = projections(lengths)
    assert_close(of_runs(lengths, keep_order, projected), one_by_one([n for n in lengths if n], projected))


def test_many_texts_of_few_lengths_are_sorted_and_others_filled_up():
    few = end_to_end(torch.arange(96), torch.tensor([[3] * 32]), keep_order=False).runs
    assert (few.sizes, few.read) == ([(32, 3)], None)
    many = end_to_end(torch.arange(15), torch.tensor([[3, 12]]), keep_order=False).runs
    assert many.sizes == [(1, 8), (1, 16)]


@pytest.mark.parametrize("keep_order", [False, True])
def test_gradients_are_those_of_each_text_alone(keep_order):
    lengths = [5, 17, 3, 5]
    gradients = []
    for read in (lambda given: of_runs(lengths, keep_order, given), lambda given: one_by_one(lengths, given)):
        given = [part.requires_grad_() for part in projections(lengths)]
        gradients.append(torch.autograd.grad((read(given) ** 3).sum(), given))
    for own, expected in zip(*gradients, strict=True):
        assert_close(own, expected)


def test_second_derivatives_exist_and_are_right():
    lengths = [3, 9]
    given = [part.requires_grad_() for part in projections(lengths)]
    assert torch.autograd.gradgradcheck(lambda *parts: of_runs(lengths, True, parts), given)


def test_large_scores_do_not_overflow():
    query, key, value = projections([4])
    assert of_runs([4], False, [1e4 * query, 1e4 * key, value]).isfinite().all()


def test_without_runs_it_is_the_fused_kernel():
    class Layer:
        is_causal = False

    query, key, value = projections([6])
    read, _ = attention(Layer(), query, key, value, None)
    assert_close(read, F.scaled_dot_product_attention(query, key, value).transpose(1, 2))


@pytest.mark.parametrize("keep_order", [False, True])
def test_long_rows_are_filled_up_to_a_round_number_and_the_filler_reads_nothing(keep_order):
    lengths = [13] * 40 + [9]
    layout = end_to_end(torch.arange(529), torch.tensor([lengths]), keep_order=keep_order, pad=-7)
    assert layout.ids.shape == layout.text.shape == (1, 576)
    assert torch.equal(layout.ids[0][layout.flat], torch.arange(529))
    assert (layout.text[0] == -1).sum() == (layout.ids[0] == -7).sum() == 576 - 529
    projected = projections(lengths)
    placed = [torch.zeros(1, HEADS, 576, SIZE, dtype=torch.float64).index_copy(2, layout.flat, p) for p in projected]
    read, _ = attention(None, *placed, None, runs=layout.runs)
    assert read.shape == (1, 576, HEADS, SIZE)
    assert_close(read[0][layout.flat], one_by_one(lengths, projected))
