"""Logistic regression is the one of scikit-learn, converged, and its weights are a weighted sum of the rows."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fewtext.nn.logistic import _Problem, fit_logistic, probabilities

C = 10.0


def made(seed):
    """Sixty rows of length 1 in ten dimensions, class numbers of four classes of very different size, weights."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * 40 + [1] * 12 + [2] * 6 + [3] * 2)
    rows = torch.randn(60, 10, generator=generator, dtype=torch.float64) + 0.5 * torch.randn(
        4, 10, generator=generator, dtype=torch.float64
    ).index_select(0, labels)
    return torch.nn.functional.normalize(rows), labels, 0.2 + torch.rand(60, generator=generator, dtype=torch.float64)


@pytest.fixture
def problem():
    return made(0)


def scikit(rows, labels, C, weights=None):
    model = LogisticRegression(C=C, fit_intercept=False, tol=1e-8, max_iter=10_000)
    return model.fit(rows.numpy(), labels.numpy(), sample_weight=None if weights is None else weights.numpy()).coef_


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_that_of_scikit_learn(problem, weighted):
    rows, labels, weights = problem
    targets = torch.nn.functional.one_hot(labels)
    own = fit_logistic(rows, targets, C, weights=weights[:, None] if weighted else None)
    np.testing.assert_allclose(own, scikit(rows, labels, C, weights if weighted else None), atol=1e-5)


def test_several_classes_are_as_many_problems_of_scikit_learn(problem):
    rows, _, _ = problem
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(60, 3, generator=generator) < torch.tensor([0.5, 0.2, 0.05])
    weights = 0.1 + torch.rand(60, 3, generator=generator, dtype=torch.float64)
    own = fit_logistic(rows, targets, C, weights=weights, several=True)
    for one in range(3):
        np.testing.assert_allclose(own[one][None], scikit(rows, targets[:, one], C, weights[:, one]), atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("C", [0.1, 10.0, 100.0])
def test_it_has_converged_so_that_its_weights_are_a_weighted_sum_of_the_rows(problem, C, several):
    rows, labels, weights = problem
    targets = torch.nn.functional.one_hot(labels).double()
    own = fit_logistic(rows, targets, C, weights=weights[:, None], several=several).requires_grad_()
    logits = rows @ own.T
    losses = torch.nn.functional.binary_cross_entropy_with_logits if several else torch.nn.functional.cross_entropy
    loss = losses(logits, targets, reduction="none")
    objective = C * (weights * (loss.sum(dim=1) if several else loss)).sum() + 0.5 * own.square().sum()
    assert torch.autograd.grad(objective, own)[0].abs().max() < 1.1e-5
    parts = C * weights[:, None] * (targets - probabilities(logits.detach(), several))
    torch.testing.assert_close(parts.T @ rows, own.detach(), atol=1.1e-5, rtol=0)


def test_the_order_of_the_rows_changes_nothing(problem):
    rows, labels, weights = problem
    targets, order = torch.nn.functional.one_hot(labels), torch.randperm(60)
    own = fit_logistic(rows, targets, 100.0, weights=weights[:, None])
    again = fit_logistic(rows[order], targets[order], 100.0, weights=weights[order, None])
    torch.testing.assert_close(own, again, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("length", "C"), [(1.0, 1.0), (1.0, 1e6), (30.0, 1e4), (1000.0, 10.0)])
@pytest.mark.parametrize("several", [False, True])
def test_it_is_found_where_whole_newton_steps_lead_away(length, C, several):
    rows, labels, _ = made(2)
    rows, targets = length * rows, torch.nn.functional.one_hot(labels).double()
    own = fit_logistic(rows, targets, C, several=several)
    gradient = C * (probabilities(rows @ own.T, several) - targets).T @ rows + own
    assert gradient.abs().max() < 1.1e-5


@pytest.mark.parametrize("several", [False, True])
def test_fewer_rows_than_entries_are_the_same_problem(problem, several):
    rows, labels, weights = problem
    targets, weights = torch.nn.functional.one_hot(labels), weights[:, None]
    wide = torch.linalg.qr(torch.randn(80, 80, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
    own = fit_logistic(rows, targets, C, weights=weights, several=several)
    turned = fit_logistic(rows @ wide[:10], targets, C, weights=weights, several=several)
    torch.testing.assert_close(turned, own @ wide[:10], atol=1e-5, rtol=0)


def test_the_faster_products_change_nothing(problem, monkeypatch):
    rows, labels, _ = problem
    targets, found = torch.nn.functional.one_hot(labels), []
    for fast in (False, True):
        monkeypatch.setattr("fewtext.nn.logistic.is_fast", lambda fast=fast: fast)
        found.append(fit_logistic(rows, targets, C))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_a_loose_tolerance_is_met_sooner(problem, monkeypatch):
    rows, labels, _ = problem
    targets, steps, newton = torch.nn.functional.one_hot(labels), [], _Problem.newton
    monkeypatch.setattr(_Problem, "newton", lambda *given: steps.append(1) or newton(*given))
    exact = fit_logistic(rows, targets, C)
    taken = len(steps)
    loose = fit_logistic(rows, targets, C, tolerance=0.1)
    gradient = C * (probabilities(rows @ loose.T, several=False) - targets).T @ rows + loose
    assert gradient.abs().max() < 0.1
    assert len(steps) - taken < taken
    torch.testing.assert_close(rows @ loose.T, rows @ exact.T, atol=0.1, rtol=0)


def test_probabilities_are_a_softmax_or_one_sigmoid_each():
    logits = torch.tensor([[1.0, 1.0, 2.0]]).log()
    torch.testing.assert_close(probabilities(logits, several=False), torch.tensor([[0.25, 0.25, 0.5]]))
    torch.testing.assert_close(probabilities(logits, several=True), torch.tensor([[0.5, 0.5, 2 / 3]]))
