"""The inner loop against gradients that torch.func computes task by task."""

import pytest
import torch

from fewtext.nn.descend import descend

torch.manual_seed(0)
TASKS, SIZE = 3, 4
DATA = torch.randn(TASKS, 6, SIZE, dtype=torch.float64)
TARGET = torch.randn(TASKS, 6, dtype=torch.float64)


def losses(state):
    return ((torch.tanh(DATA @ state["w"][..., None])[..., 0] * state["s"][:, None] - TARGET) ** 2).mean(1)


def one_loss(w, s, task):
    return ((torch.tanh(DATA[task] @ w) * s - TARGET[task]) ** 2).mean()


@pytest.mark.parametrize("second_order", [True, False])
def test_states_and_meta_gradients_equal_those_of_each_task_alone(second_order):
    w = torch.randn(SIZE, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)
    start = {"w": w.expand(TASKS, SIZE), "s": s.expand(TASKS)}
    *_, last = descend(losses, start, lambda step, name: alpha[step], 2, second_order=second_order)
    got = torch.autograd.grad(losses(last).sum(), [w, s, alpha])

    total = 0.0
    for task in range(TASKS):
        fast = (w, s)
        for step in range(2):
            gradient = torch.func.grad(lambda pair, task=task: one_loss(*pair, task))(fast)
            if not second_order:
                gradient = tuple(part.detach() for part in gradient)
            fast = tuple(value - alpha[step] * part for value, part in zip(fast, gradient, strict=True))
        torch.testing.assert_close(last["w"][task], fast[0], atol=1e-12, rtol=1e-12)
        total = total + one_loss(*fast, task)
    for one, other in zip(got, torch.autograd.grad(total, [w, s, alpha]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10)


def test_every_state_is_yielded_and_the_loss_falls():
    start = {"w": torch.zeros(TASKS, SIZE, dtype=torch.float64).requires_grad_()}
    start["s"] = torch.ones(TASKS, dtype=torch.float64).requires_grad_()
    states = list(descend(losses, start, lambda step, name: 0.05, 5))
    values = [losses(state).sum().item() for state in (start, *states)]
    assert len(states) == 5
    assert values == sorted(values, reverse=True)


def test_a_value_the_loss_does_not_use_stays_where_it_is():
    start = {"w": torch.zeros(TASKS, SIZE, dtype=torch.float64).requires_grad_()}
    start["s"] = torch.ones(TASKS, dtype=torch.float64).requires_grad_()
    start["idle"] = torch.ones(TASKS, 2).requires_grad_()
    (state,) = descend(losses, start, lambda step, name: 0.1, 1)
    assert torch.equal(state["idle"], start["idle"])
