"""The inner loop: gradient descent on values that belong to tasks, not to a model.

Tasks share no fast weight, so the gradient of the summed loss is each task's own; T tasks are one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from fewtext.tensors import TaskState


def descend(
    loss: Callable[[TaskState], Tensor],
    start: TaskState,
    step_size: Callable[[int, str], Tensor | float],
    steps: int,
    *,
    second_order: bool = False,
) -> Iterator[TaskState]:
    """Yield the state after each of `steps` gradient steps.

    Args:
        loss: state → losses `[T]`, task *t* depending on the *t*-th slice of each tensor only.
        start: where to begin; every value `[T, …]` and part of a graph (`requires_grad`).
        step_size: step number and name → how far to go along the negative gradient.
        steps: how many.
        second_order: differentiate through the gradients (MAML); otherwise they count as constants (first-order
            MAML, https://arxiv.org/abs/1703.03400), and only the start and the step sizes receive a gradient.
    """
    state = start
    for step in range(steps):
        names = list(state)
        gradients = torch.autograd.grad(
            loss(state).sum(), [state[name] for name in names], create_graph=second_order, allow_unused=True
        )
        moves: Mapping[str, Tensor | None] = dict(zip(names, gradients, strict=True))
        state = {name: _moved(value, moves[name], step_size(step, name)) for name, value in state.items()}
        yield state


def _moved(value: Tensor, gradient: Tensor | None, step_size: Tensor | float) -> Tensor:
    return value if gradient is None else value - step_size * gradient
