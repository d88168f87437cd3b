"""A copy of an encoder for use without gradients: adapters merged into the weights, in the precision asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fewtext.nn.frozen_linear import FrozenLinear


@torch.no_grad()
def merged(backbone: Any, dtype: torch.dtype) -> Any:
    """Return a copy of the model that gives the same vectors in fewer products.

    Embeddings and the weights of layer norms stay as they are: they cost little, and rounding them is a good half of
    what vectors in bfloat16 lack. What needs no conversion is shared with the original, not copied.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    model = backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone
    exact = {id(own) for module in _exact_modules(model) for own in module.parameters()}
    shared: dict[int, Any] = {
        id(own): _frozen(own, own.dtype if id(own) in exact else dtype) for own in model.parameters()
    }
    out = copy.deepcopy(model, shared)
    if isinstance(embeddings := getattr(out, "embeddings", None), nn.Module):
        embeddings.register_forward_hook(lambda _module, _inputs, vectors: vectors.to(dtype))
    adapted: dict[str, Any] = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    for name, layer in adapted.items():
        base = layer.get_base_layer()
        linear = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        deltas = [layer.get_delta_weight(adapter) for adapter in layer.active_adapters]
        linear.weight = _frozen(base.weight + sum(deltas), dtype)
        if base.bias is not None:
            linear.bias = _frozen(base.bias, dtype)
        out.set_submodule(name, FrozenLinear.sharing(linear))
    return out


def state_of(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes when a weight does: place and version of each."""
    return tuple((own.data_ptr(), own._version) for own in model.parameters())


def _exact_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yield what keeps its precision; only on a CPU does layer norm take weights more precise than its input."""
    if isinstance(embeddings := getattr(model, "embeddings", None), nn.Module):
        yield embeddings
    if next(model.parameters()).is_cpu:
        yield from (module for module in model.modules() if isinstance(module, nn.LayerNorm))


def _frozen(weight: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(weight.detach().to(dtype), requires_grad=False)
