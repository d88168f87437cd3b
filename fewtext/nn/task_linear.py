"""A linear layer whose weight may differ from task to task.

peft creates, names and saves the LoRA adapter; only its two small linears are replaced by this class, which
shares their parameter and state-dict key. With `torch.func.functional_call` the weight may then be `[T, out, in]`.
Tasks have different numbers of tokens; how many, the model that lies between cannot pass on, so a scope does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SIZES: ContextVar[Sequence[int] | None] = ContextVar("rows_per_task", default=None)


@contextmanager
def rows_per_task(sizes: Sequence[int] | None) -> Iterator[None]:
    """Within this scope the rows of T tasks are so many each; None means equally many."""
    token = _SIZES.set(sizes)
    try:
        yield
    finally:
        _SIZES.reset(token)


class TaskLinear(nn.Linear):
    """`nn.Linear` without bias that also takes a weight `[T, out, in]` for rows `[T·R, …, in]` ordered by task."""

    @classmethod
    def sharing(cls, linear: nn.Linear) -> TaskLinear:
        """Return a TaskLinear that shares the parameter of `linear`."""
        own = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        own.weight = linear.weight
        return own

    def forward(self, input: Tensor) -> Tensor:
        """Return `input @ weight.T`, with each task's own weight where there is one per task."""
        if self.weight.dim() == 2:
            return F.linear(input, self.weight)
        sizes = _SIZES.get()
        if sizes is None:
            by_task = input.reshape(self.weight.shape[0], -1, input.shape[-1])
            return (by_task @ self.weight.mT).reshape(*input.shape[:-1], -1)
        # One product per task: a single one for all is slower, since most of its columns are not wanted.
        pieces = zip(input.reshape(-1, input.shape[-1]).split(list(sizes)), self.weight.unbind(), strict=True)
        return torch.cat([F.linear(rows, weight) for rows, weight in pieces]).reshape(*input.shape[:-1], -1)


def allow_task_weights(model: nn.Module) -> list[str]:
    """Replace the linears of every LoRA layer of `model`; returns the names of their weights."""
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            for part in (module.lora_A, module.lora_B):
                for name, linear in part.items():
                    assert isinstance(linear, nn.Linear)
                    part[name] = TaskLinear.sharing(linear)
    linears = [name for name, module in model.named_modules() if isinstance(module, TaskLinear)]
    return [f"{name}.weight" for name in linears]
