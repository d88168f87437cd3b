"""From embeddings to logits, against numpy."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fewtext.nn.heads import class_means, cosine, mask_classes, negative_squared_distance
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
