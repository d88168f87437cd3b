"""From embeddings to logits, against numpy."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fewtext.nn.heads import (
    class_means,
    cosine,
    left_out,
    log_sum_exp,
    mask_classes,
    members,
    negative_squared_distance,
    weighted_means,
)
from fewtext.tensors import ABSENT


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(array):
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def test_class_means_are_the_means_of_the_rows_of_each_class():
    embeddings, labels = normal(2, 6, 4), torch.tensor([[0, 1, 2, 1, 0, 0], [2, 2, 1, 0, 1, 2]])
    means, counts = class_means(embeddings, labels, 3)
    for task in range(2):
        for label in range(3):
            rows = embeddings[task].numpy()[labels[task].numpy() == label]
            np.testing.assert_allclose(means[task, label], rows.mean(0), rtol=1e-5, atol=1e-6)
            assert counts[task, label] == len(rows)


def test_class_without_rows_has_a_zero_mean():
    means, counts = class_means(normal(1, 2, 4), torch.tensor([[0, 2]]), 3)
    assert torch.equal(means[0, 1], torch.zeros(4))
    assert counts.tolist() == [[1, 0, 1]]


def test_absent_rows_do_not_change_the_means():
    embeddings, labels = normal(1, 4, 3), torch.tensor([[0, 1, ABSENT, ABSENT]])
    means, counts = class_means(embeddings, labels, 2)
    assert_close(means, embeddings[:, :2])
    assert counts.tolist() == [[1, 1]]


def test_cosine_is_that_of_numpy():
    queries, prototypes = normal(2, 5, 4), normal(2, 3, 4, seed=1)
    expected = unit(queries.numpy()) @ unit(prototypes.numpy()).swapaxes(1, 2)
    np.testing.assert_allclose(cosine(queries, prototypes), expected, rtol=1e-5, atol=1e-6)


def test_cosine_with_a_zero_prototype_is_zero():
    assert torch.equal(cosine(normal(1, 2, 4), torch.zeros(1, 1, 4)), torch.zeros(1, 2, 1))


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_negative_squared_distance_is_that_of_numpy_for_queries_of_any_length(scale):
    queries, prototypes = normal(2, 5, 4), normal(2, 3, 4, seed=1)
    difference = unit(queries.numpy())[:, :, None] - prototypes.numpy()[:, None]
    logits = negative_squared_distance(scale * queries, prototypes)
    np.testing.assert_allclose(logits, -(difference**2).sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_negative_squared_distance_ranks_unit_prototypes_like_cosine(seed):
    queries, prototypes = normal(2, 6, 4, seed=seed), torch.nn.functional.normalize(normal(2, 5, 4, seed=9), dim=-1)
    ranks = negative_squared_distance(queries, prototypes).argsort(-1)
    assert torch.equal(ranks, cosine(queries, prototypes).argsort(-1))


def test_masked_classes_never_win():
    logits, class_mask = normal(2, 20, 3), torch.tensor([[True, False, True], [False, True, True]])
    logits[~class_mask[:, None].expand_as(logits)] += 100
    probabilities = mask_classes(logits, class_mask).softmax(-1)
    assert (probabilities[0, :, 1] == 0).all()
    assert (probabilities[1, :, 0] == 0).all()


def test_mask_leaves_the_classes_a_task_has_as_they_are():
    logits = normal(1, 4, 3)
    masked = mask_classes(logits, torch.tensor([[True, True, False]]))
    assert torch.equal(masked[..., :2], logits[..., :2])


def test_names_count_for_their_class_and_absent_rows_for_none():
    labels, named = torch.tensor([[1, ABSENT, 0]]), torch.tensor([[1.0, 0.0]])
    expected = torch.tensor([[[0, 1], [0, 0], [1, 0], [0.5, 0], [0, 0]]])
    assert_close(members(labels, named, 0.5), expected)


def test_weighted_means_are_those_of_numpy_and_zero_without_weight():
    rows, weights = normal(2, 5, 4), normal(2, 5, 3, seed=1).abs()
    weights[1, :, 2] = 0
    means, totals = weighted_means(rows, weights)
    for label in range(3):
        expected = np.average(rows[0], axis=0, weights=weights[0, :, label])
        np.testing.assert_allclose(means[0, label], expected, rtol=1e-5, atol=1e-6)
    assert_close(totals, weights.sum(1))
    assert torch.equal(means[1, 2], torch.zeros(4))


def test_the_gradient_of_a_mean_without_weight_is_finite():
    rows = normal(1, 2, 4).requires_grad_()
    weighted_means(rows, torch.zeros(1, 2, 3))[0].sum().backward()
    assert rows.grad.isfinite().all()


def test_each_row_is_left_out_of_the_means_it_is_compared_with():
    rows = torch.nn.functional.normalize(normal(1, 5, 4).double(), dim=-1)
    weights = normal(1, 5, 3, seed=1).double().abs()
    dot, square = left_out(rows, weights)
    for row in range(5):
        others = [other for other in range(5) if other != row]
        means, _ = weighted_means(rows[:, others], weights[:, others])
        assert_close(dot[0, row], means[0] @ rows[0, row], atol=1e-12, rtol=0)
        assert_close(square[0, row], means[0].square().sum(-1), atol=1e-12, rtol=0)


def test_log_sum_exp_is_that_of_numpy_even_where_powers_overflow():
    scores, weights = 100 * normal(1, 2, 4), torch.tensor([[[1.0, 0], [0.5, 0], [0, 2], [0, 0]]])
    first, second, third = scores[0, :, :3].double().T
    expected = torch.stack([torch.logaddexp(first, second + np.log(0.5)), third + np.log(2)], dim=-1)
    gap = scores[0].amax(-1, keepdim=True) - expected
    assert_close(log_sum_exp(scores, weights)[0].double()[gap < 80], expected[gap < 80], rtol=1e-5, atol=1e-5)


def test_a_class_without_weight_has_the_least_log_sum_and_it_is_finite():
    found = log_sum_exp(normal(1, 3, 2), torch.tensor([[[1.0, 0], [1, 0]]]))
    assert found.isfinite().all()
    assert (found[..., 1] < found[..., 0] - 80).all()
