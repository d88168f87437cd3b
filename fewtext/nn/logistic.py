"""Regularised logistic regression, solved until it has converged.

A converged solution is a function of its data alone: not of the solver's path, of where it started, or of the order
of the rows. And only there the weights are what evidence is made of, a weighted sum of the rows: W = Aᵀ X with
A = C · w ∘ (Y − P).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewtext.nn.matmul import fast_matmul, is_fast

TOLERANCE = 1e-5  # of the gradient: logits are then exact to about 1e-6
ROUGH = 1.0  # of the gradient: from there on Newton steps are faster than L-BFGS
STEPS, HISTORY = 1000, 8
NEWTON = 100  # steps at most; three are usual
CURVED = 1e-2  # of what curvature the losses have where nothing is known: about what is left of it in the end
LEFT = 1e-2  # of the gradient by a Newton step
ROUNDING = 1e-12  # of a loss in float64
STALLED = 1e-9  # change of a loss: float32 says no more


def fit_logistic(
    rows: Tensor,
    targets: Tensor,
    C: float,
    *,
    weights: Tensor | None = None,
    several: bool = False,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Return the weights `[N, D]` that minimise C · Σ w · cross-entropy + ½ ‖W‖².

    L-BFGS comes near them, then Newton steps: float32 finds where to go, float64 says how far that still is.

    Args:
        rows: `[n, D]`.
        targets: `[n, N]`, 1 where a row has a class, otherwise 0.
        C: inverse strength of regularisation.
        weights: of the losses: `[n, 1]`, or `[n, N]` where rows have several classes.
        several: whether a row may have several classes or none: a sigmoid for each, in place of one softmax.
        tolerance: largest entry of the gradient to stop at.
    """
    cost = C * (torch.ones(1, 1) if weights is None else weights).to(rows.device)
    with torch.no_grad(), fast_matmul():
        problem, single = (
            _Problem(rows.to(kind), targets.to(kind), cost.to(kind), rows.new_ones(1, dtype=kind), several)
            for kind in (torch.float64, torch.float32)
        )
        turned, axes = single.turned()
        return _converged(problem, turned, axes, tolerance, (_descended(turned) @ axes.T).double())


@dataclass(frozen=True)
class _Problem:
    """What is minimised: Σ cost · cross-entropy + ½ Σ decay · W²."""

    rows: Tensor
    targets: Tensor
    cost: Tensor
    decay: Tensor
    several: bool

    def turned(self) -> tuple[_Problem, Tensor]:
        """Return the same problem for weights along axes, and these `[D, min(n, D)]`.

        They have such lengths that the loss is about equally curved along each.
        """
        rows, span = self.rows, None
        if rows.shape[0] < rows.shape[1]:  # the solution is a sum of the rows
            span = torch.linalg.qr(rows.T).Q
            rows = rows @ span
        chance = 0.5 if self.several else 1 / self.targets.shape[1]
        curved = CURVED * chance * (1 - chance) * self.cost.mean(dim=1, keepdim=True)
        curvatures, axes = torch.linalg.eigh((curved * rows).T @ rows)
        lengths = (1 + curvatures.clamp(min=0)).rsqrt()
        axes = axes * lengths
        turned = _Problem(rows @ axes, self.targets, self.cost, lengths.square(), self.several)
        return turned, axes if span is None else span @ axes

    def at(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, its gradient `[N, D]`, and the probabilities `[n, N]`."""
        logits, shrunk = _product(self.rows, weights), self.decay * weights
        if self.several:
            losses, chances = F.softplus(logits) - self.targets * logits, logits.sigmoid()
        else:
            logs = logits.log_softmax(dim=1)
            losses, chances = -self.targets * logs, logs.exp()
        gradient = shrunk + _product((self.cost * (chances - self.targets)).T, self.rows.T)
        return (self.cost * losses).sum() + 0.5 * (shrunk * weights).sum(), gradient, chances

    def newton(self, gradient: Tensor, chances: Tensor, left: float) -> Tensor:
        """Return the step that leaves but a share of the gradient if the curvature stays, by conjugate gradients."""
        step, rest = torch.zeros_like(gradient), -gradient
        way, size = rest, rest.square().sum()
        enough = left**2 * size
        for _ in range(STEPS):
            logits = _product(self.rows, way)
            mean = chances * logits if self.several else (chances * logits).sum(dim=1, keepdim=True)
            bent = self.decay * way + _product((self.cost * chances * (logits - mean)).T, self.rows.T)
            length = size / (way * bent).sum()
            step, rest = step + length * way, rest - length * bent
            before, size = size, rest.square().sum()
            if not size > enough:
                break
            way = rest + size / before * way
        return step


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return left · rightᵀ."""
    if is_fast() and left.is_cpu and left.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return left @ right.T


def _descended(problem: _Problem) -> Tensor:
    """Return what L-BFGS finds: near the solution, or where float32 sees no way on."""
    solution = problem.rows.new_zeros(problem.targets.shape[1], problem.rows.shape[1])
    solver = torch.optim.LBFGS(
        [solution],
        max_iter=STEPS,
        max_eval=2 * STEPS,
        history_size=HISTORY,
        tolerance_grad=ROUGH * problem.decay.min().sqrt().item(),
        tolerance_change=STALLED,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        value, solution.grad, _ = problem.at(solution)
        return value

    solver.step(loss)  # pyright: ignore[reportArgumentType]
    return solution.detach()


def _converged(problem: _Problem, turned: _Problem, axes: Tensor, tolerance: float, solution: Tensor) -> Tensor:
    """Return the solution that Newton steps lead to, each found along the axes."""
    value, gradient, chances = problem.at(solution)
    for _ in range(NEWTON):
        largest = gradient.abs().max().item()
        if not largest > tolerance:
            break
        left = max(LEFT, 0.25 * tolerance / largest)
        step = (turned.newton(gradient.float() @ axes, chances.float(), left) @ axes.T).double()
        while (found := problem.at(solution + step))[0] > value + ROUNDING * value.abs():
            step /= 2
        solution = solution + step
        value, gradient, chances = found
    return solution


def probabilities(logits: Tensor, several: bool) -> Tensor:
    """Return probabilities `[n, N]`: a softmax over the classes, or a sigmoid for each."""
    return logits.sigmoid() if several else logits.softmax(dim=1)
