"""Texts share rows without touching each other, and every token is found again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtext.nn.layout import in_rows, pack

WIDTH = 20
quick = settings(max_examples=80, deadline=None)
lengths_of_a_task = st.lists(st.integers(0, WIDTH), max_size=30).map(lambda sizes: np.array(sizes, dtype=np.int64))
lengths_of_tasks = st.integers(1, 8).flatmap(
    lambda texts: st.lists(st.lists(st.integers(0, 30), min_size=texts, max_size=texts), min_size=1, max_size=3)
)


def tokens(lengths):
    lengths = torch.tensor(lengths)
    return torch.arange(1, int(lengths.sum()) + 1), lengths


def of_tokens(layout, values):
    return values.reshape(-1)[layout.flat]


@quick
@given(lengths_of_a_task)
def test_packed_texts_are_whole_and_do_not_overlap(lengths):
    row, offset = pack(lengths, WIDTH)
    taken = set()
    for text, length in enumerate(lengths):
        places = {(row[text], offset[text] + step) for step in range(length)}
        assert all(place < WIDTH for _, place in places)
        assert not places & taken
        taken |= places


@quick
@given(lengths_of_a_task)
def test_at_most_one_packed_row_is_not_more_than_half_full(lengths):
    row, _ = pack(lengths, WIDTH)
    fill = np.bincount(row, weights=lengths)
    assert (fill[fill > 0] <= WIDTH / 2).sum() <= 1


def test_pack_finds_the_rows_that_leave_no_gap():
    row, _ = pack(np.array([2, 5, 3, 6, 4]), 10)
    assert sorted(np.bincount(row, weights=[2, 5, 3, 6, 4])) == [10, 10]


@quick
@given(lengths_of_tasks, st.booleans())
def test_flat_index_brings_the_tokens_back_in_order(lengths, packed):
    ids, lengths = tokens(lengths)
    layout = in_rows(ids, lengths, packed=packed, width=WIDTH)
    assert torch.equal(of_tokens(layout, layout.ids), ids)


@quick
@given(lengths_of_tasks, st.booleans())
def test_positions_start_again_at_each_text(lengths, packed):
    layout = in_rows(*tokens(lengths), packed=packed, width=WIDTH)
    own = [step for texts in lengths for length in texts for step in range(length)]
    assert of_tokens(layout, layout.position).tolist() == own


@quick
@given(lengths_of_tasks, st.booleans())
def test_places_without_a_token_hold_the_pad(lengths, packed):
    ids, lengths = tokens(lengths)
    layout = in_rows(ids, lengths, packed=packed, width=WIDTH, pad=-7)
    assert torch.equal(layout.text == -1, layout.ids == -7)
    assert int((layout.text >= 0).sum()) == len(ids)


@quick
@given(lengths_of_tasks, st.booleans())
def test_block_mask_lets_a_token_see_exactly_its_own_text(lengths, packed):
    ids, lengths = tokens(lengths)
    layout = in_rows(ids, lengths, packed=packed, width=WIDTH)
    sees = layout.block_mask(torch.float32)[:, 0] == 0
    text_of = torch.repeat_interleave(torch.arange(lengths.numel()), lengths.reshape(-1))
    for row, query in (layout.text >= 0).nonzero().tolist():
        token = int(layout.ids[row, query])
        assert sorted(layout.ids[row][sees[row, query]].tolist()) == ids[text_of == text_of[token - 1]].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_block_mask_is_finite_and_leaves_no_row_all_masked(dtype):
    mask = in_rows(*tokens([[3, 2, 0]]), packed=True, width=8).block_mask(dtype)
    assert mask.dtype == dtype
    assert mask.shape == (1, 1, 8, 8)
    assert mask.isfinite().all()
    assert (mask == 0).any(-1).all()


@quick
@given(lengths_of_tasks, st.booleans())
def test_each_task_has_the_same_number_of_rows(lengths, packed):
    ids, lengths = tokens(lengths)
    layout = in_rows(ids, lengths, packed=packed, width=WIDTH)
    rows, rest = divmod(len(layout.ids), len(lengths))
    task_of = torch.repeat_interleave(torch.arange(len(lengths)), lengths.sum(1))
    assert rest == 0
    assert torch.equal(layout.flat // layout.ids.shape[1] // rows, task_of)


def test_a_packed_task_takes_the_rows_of_the_largest_only():
    assert in_rows(*tokens([[8, 8, 8], [2, 3, 3]]), packed=True, width=8).ids.shape == (6, 8)


@pytest.mark.parametrize("packed", [True, False])
def test_absent_rows_at_the_end_take_no_room(packed):
    without = in_rows(*tokens([[5, 2], [3, 4]]), packed=packed, width=6)
    absent = in_rows(*tokens([[5, 2, 0, 0], [3, 4, 0, 0]]), packed=packed, width=6)
    assert torch.equal(absent.ids, without.ids)
    assert torch.equal(absent.flat, without.flat)


def test_a_text_longer_than_the_width_makes_the_rows_longer():
    assert in_rows(*tokens([[9, 3]]), packed=True, width=6).ids.shape == (2, 9)


@pytest.mark.parametrize("packed", [True, False])
def test_tasks_without_any_text_get_one_row_of_padding(packed):
    layout = in_rows(*tokens([[0, 0], [0, 0]]), packed=packed, width=4, pad=9)
    assert len(layout.ids) == 2
    assert (layout.ids == 9).all()
    assert not len(layout.flat)
