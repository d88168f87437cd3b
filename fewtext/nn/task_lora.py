"""A LoRA layer whose two factors may differ from task to task.

peft creates, names and saves the adapter; only how its layer computes is replaced. With `torch.func.functional_call`
the factors may then be `[T, rank, in]` and `[T, out, rank]`. What an adapter adds is added in place, without a pass
over memory of its own: the products are small, so passes are what adapters cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from fewtext.nn.layout import task_sizes


class TaskLora(Linear):
    """peft's LoRA layer, also for rows `[T·R, …, in]` ordered by task with factors for each task."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return `x @ weight.T + bias`, and what the adapters add to it."""
        if self.disable_adapters or self.merged or self.lora_variant or kwargs:
            return super().forward(x, *args, **kwargs)
        out = self.base_layer(x)
        x = x.to(out.dtype)
        for name in self.active_adapters:
            if name in self.lora_A:
                factors = (cast("Tensor", part[name].weight) for part in (self.lora_A, self.lora_B))
                down, up = (factor.to(out.dtype) for factor in factors)
                out = _adapted(out, x, down * self.scaling[name], up)
        return out


def _adapted(out: Tensor, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return `out + x @ down.T @ up.T`, which may be `out` itself."""
    tasks = max([len(factor) for factor in (down, up) if factor.dim() == 3], default=1)
    down, up = (factor.expand(tasks, *factor.shape[-2:]) for factor in (down, up))
    sizes = [x.numel() // x.shape[-1]] if tasks == 1 else task_sizes()
    if sizes is not None:
        return _InPlace.apply(out, x, down, up, sizes)
    inner = x.reshape(tasks, -1, x.shape[-1]) @ down.mT
    return torch.baddbmm(out.reshape(tasks, -1, out.shape[-1]), inner, up.mT).view_as(out)


class _InPlace(torch.autograd.Function):
    """`out += x @ down[t].T @ up[t].T` for the rows of each task, which may be of different numbers.

    One product per task: a single one for all is slower, since most of its columns are not wanted. What is between
    the factors lies rank by row, `[rank, rows]`: of a product and its transpose, that with the short side first is
    up to four times as fast.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, down: Tensor, up: Tensor, sizes: Sequence[int]) -> Tensor:
        out = out.detach()  # nobody reads what it was before, so autograd need not know that it is the same memory
        between = [first @ rows.T for first, rows in zip(down, _pieces(x, sizes), strict=True)]
        for own, part, second in zip(_pieces(out, sizes), between, up, strict=True):
            own.addmm_(part.T, second.T)
        ctx.save_for_backward(x, down, up, *between)
        ctx.sizes = sizes
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, down, up, *between = ctx.saved_tensors
        own, rows = (_pieces(part, ctx.sizes) for part in (gradients[0], x))
        if torch.is_grad_enabled():  # to be differentiated again: by x and down as well
            between = [first @ part.T for first, part in zip(down, rows, strict=True)]
        to_between = [second.T @ part.T for second, part in zip(up, own, strict=True)]
        to_down = [left @ right for left, right in zip(to_between, rows, strict=True)]
        to_up = [(left @ right).T for left, right in zip(between, own, strict=True)]
        to_x = None
        if ctx.needs_input_grad[1]:
            to_x = torch.cat([left.T @ first for left, first in zip(to_between, down, strict=True)]).view_as(x)
        return gradients[0], to_x, torch.stack(to_down), torch.stack(to_up), None


def _pieces(rows: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return rows.reshape(-1, rows.shape[-1]).split(list(sizes))


def allow_task_weights(model: nn.Module) -> None:
    """Let every LoRA layer of `model` compute this way."""
    for layer in model.modules():
        if type(layer) is Linear:
            layer.__class__ = TaskLora
