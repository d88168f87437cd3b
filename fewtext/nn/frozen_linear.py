"""Linear layers that are not trained, multiplied from weights in the processor's own layout.

oneDNN rearranges a matrix before it multiplies; for weights that stay as they are, once is enough. Backward needs
the product with the transposed weight, and nothing else: no gradient of the weight is ever computed.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.nn.matmul import is_fast

ROWS = 2048  # rows of input that the layout is chosen for; it holds for any number


class _Packed:
    """A weight in oneDNN's layout, and its transpose as soon as a gradient needs it."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, made_from: tuple[int, int]) -> None:
        self._source = linear.weight.detach().to(dtype)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.made_from = made_from  # the state of the weight
        self.weight = torch.ops.mkldnn._reorder_linear_weight(self._source, ROWS)

    @cached_property
    def transposed(self) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(self._source.T, ROWS)


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """`input @ weight.T + bias` for a constant weight; its gradient is one more such product."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weights = weight, transposed
        return _product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        weight, transposed = ctx.weights
        return _Product.apply(gradients[0], transposed, weight, None), None, None, None


class FrozenLinear(nn.Linear):
    """`nn.Linear` that is faster within `fast_matmul` as long as its weight is not being trained."""

    _packed: dict[torch.dtype, _Packed]

    @classmethod
    def sharing(cls, linear: nn.Linear) -> FrozenLinear:
        """Return a FrozenLinear that shares the parameters of `linear`."""
        own = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        own.weight, own.bias = linear.weight, linear.bias
        own._packed = {}
        return own

    def forward(self, input: Tensor) -> Tensor:
        """Return `input @ weight.T + bias`."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if not self._packs(input, dtype):
            return F.linear(input, self.weight, self.bias)
        made_from = (self.weight.data_ptr(), self.weight._version)
        packed = self._packed.get(dtype)
        if packed is None or packed.made_from != made_from:
            packed = self._packed[dtype] = _Packed(self, dtype, made_from)
        if torch.is_grad_enabled() and input.requires_grad:
            return _Product.apply(input.to(dtype), packed.weight, packed.transposed, packed.bias)
        return _product(input.to(dtype), packed.weight, packed.bias)

    def _packs(self, input: Tensor, dtype: torch.dtype) -> bool:
        trained = torch.is_grad_enabled() and any(own.requires_grad for own in self.parameters())
        own = isinstance(self.weight, nn.Parameter)  # and not a task's, put there by functional_call
        return is_fast() and own and not trained and input.is_cpu and dtype in (torch.float32, torch.bfloat16)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be copied and is quickly made again."""
        return self.__dict__ | {"_packed": {}}


def freeze_linears(model: nn.Module) -> None:
    """Replace every plain `nn.Linear` of `model`; parameters and their names stay."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, FrozenLinear.sharing(child))
