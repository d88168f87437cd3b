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


def of_runs(lengths, projected):
    """Return what each token reads."""
    layout = end_to_end(torch.arange(sum(lengths)), torch.tensor([lengths]))
    read, _ = attention(None, *projected, None, runs=layout.runs)
    return read[0]


def one_by_one(lengths, projected):
    texts = zip(*(part.split(lengths, dim=2) for part in projected), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*text)[0].transpose(0, 1) for text in texts])


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any))
def test_each_text_reads_itself_only(lengths):
    projected = projections(lengths)
    assert_close(of_runs(lengths, projected), one_by_one([n for n in lengths if n], projected))


def test_many_texts_of_few_lengths_come_together_and_others_are_filled_up():
    few = end_to_end(torch.arange(112), torch.tensor([[3, 4] * 16])).runs
    assert (few.sizes, few.unread) == ([(16, 3), (16, 4)], None)
    in_order = end_to_end(torch.arange(112), torch.tensor([[3] * 16 + [4] * 16])).runs
    assert (in_order.sizes, in_order.read) == (few.sizes, None)
    many = end_to_end(torch.arange(15), torch.tensor([[3, 12]])).runs
    assert many.sizes == [(1, 8), (1, 16)]
    assert [(unread == 0).sum().item() for unread in many.unread] == [3, 12]


def test_gradients_are_those_of_each_text_alone():
    lengths = [5, 17, 3, 5]
    gradients = []
    for read in (lambda given: of_runs(lengths, given), lambda given: one_by_one(lengths, given)):
        given = [part.requires_grad_() for part in projections(lengths)]
        gradients.append(torch.autograd.grad((read(given) ** 3).sum(), given))
    for own, expected in zip(*gradients, strict=True):
        assert_close(own, expected)


def test_second_derivatives_exist_and_are_right():
    lengths = [3, 9]
    given = [part.requires_grad_() for part in projections(lengths)]
    assert torch.autograd.gradgradcheck(lambda *parts: of_runs(lengths, parts), given)


def test_large_scores_do_not_overflow():
    query, key, value = projections([4])
    assert of_runs([4], [1e4 * query, 1e4 * key, value]).isfinite().all()


def test_without_runs_it_is_the_fused_kernel():
    class Layer:
        is_causal = False

    query, key, value = projections([6])
    read, _ = attention(Layer(), query, key, value, None)
    assert_close(read, F.scaled_dot_product_attention(query, key, value).transpose(1, 2))


@pytest.mark.parametrize("lengths", [[13] * 40 + [9], [9] + [13] * 40, [5, 70, 20] * 6])
def test_long_rows_are_filled_up_to_a_round_number_that_changes_nothing(lengths):
    total, filled = sum(lengths), -(-sum(lengths) // 64) * 64
    layout = end_to_end(torch.arange(total), torch.tensor([lengths]), pad=-7)
    assert layout.ids.tolist() == [[*range(total), *[-7] * (filled - total)]]
    assert (layout.text[0] == -1).sum() == filled - total
    projected = projections([*lengths, filled - total])
    read, _ = attention(None, *projected, None, runs=layout.runs)
    assert read.shape == (1, filled, HEADS, SIZE)
    assert_close(read[0][:total], one_by_one(lengths, [part[:, :, :total] for part in projected]))
