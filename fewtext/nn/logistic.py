"""Regularised logistic regression, solved until it has converged.

A converged solution is a function of its data alone: not of the solver's path, of where it started, or of the order
of the rows. And only there the weights are what evidence is made of, a weighted sum of the rows: W = Aᵀ X with
A = C · w ∘ (Y − P).
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-5  # of the gradient: logits are then exact to about 1e-6
SINGLE = 1e-2  # what float32 reaches
STEPS, HISTORY = 1000, 8


def fit_logistic(
    rows: Tensor,
    targets: Tensor,
    C: float,
    *,
    weights: Tensor | None = None,
    several: bool = False,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Return the weights `[N, D]` that minimise C · Σ w · cross-entropy + ½ ‖W‖², by L-BFGS.

    Args:
        rows: `[n, D]`.
        targets: `[n, N]`, 1 where a row has a class, otherwise 0.
        C: inverse strength of regularisation.
        weights: of the losses: `[n, 1]`, or `[n, N]` where rows have several classes.
        several: whether a row may have several classes or none: a sigmoid for each, in place of one softmax.
        tolerance: largest entry of the gradient to stop at; float32 does for a large one, else it is float64.
    """
    precision = torch.float32 if tolerance >= SINGLE else torch.float64
    rows, targets = rows.to(precision), targets.to(precision)
    cost = C * (torch.ones(1, 1) if weights is None else weights).to(rows)
    solution = rows.new_zeros(targets.shape[1], rows.shape[1])
    solution.grad = torch.zeros_like(solution)
    solver = torch.optim.LBFGS(
        [solution],
        max_iter=STEPS,
        max_eval=2 * STEPS,
        history_size=HISTORY,
        tolerance_grad=tolerance,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        logits = rows @ solution.T
        if several:
            losses = torch.nn.functional.softplus(logits) - targets * logits
        else:
            losses = -targets * logits.log_softmax(dim=1)
        torch.addmm(solution, (cost * (probabilities(logits, several) - targets)).T, rows, out=solution.grad)
        return (cost * losses).sum() + 0.5 * solution.square().sum()

    with torch.no_grad():
        solver.step(loss)  # pyright: ignore[reportArgumentType]
    return solution.detach()


def probabilities(logits: Tensor, several: bool) -> Tensor:
    """Return probabilities `[n, N]`: a softmax over the classes, or a sigmoid for each."""
    return logits.sigmoid() if several else logits.softmax(dim=1)
