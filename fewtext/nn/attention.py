"""Attention over texts that lie end to end: those of one length are one batch, so nothing is padded or masked.

transformers models call it under the name `NAME`; the lengths travel with the call as `runs`. Without them, and so
for everybody who calls the model in the usual way, it is PyTorch's fused attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "fewtext"
VECTOR = 16  # PyTorch's softmax over fewer float32 values than this does not use the vector units


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    runs: Sequence[tuple[int, int]] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what tokens read from each other, `[1, total, heads, d]`.

    Args:
        module: the model's attention layer.
        query: `[1, heads, total, d]`; `key` and `value` alike.
        key: what is looked at.
        value: what is read.
        attention_mask: for the usual call; there is none between runs.
        scaling: factor of the scores.
        runs: how many texts of which length follow each other.
        kwargs: for the usual call.
    """
    if runs is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    sizes = [texts * length for texts, length in runs]
    pieces = (part[0].transpose(0, 1).split(sizes) for part in (query * scaling, key, value))
    read = []
    for (texts, length), *parts in zip(runs, *pieces, strict=True):
        q, k, v = (part.unflatten(0, (texts, length)).transpose(1, 2) for part in parts)
        read.append((_softmax(q @ k.mT).to(v.dtype) @ v).transpose(1, 2).flatten(0, 1))
    return torch.cat(read)[None], None


def _softmax(scores: Tensor) -> Tensor:
    if scores.shape[-1] >= VECTOR or scores.device.type != "cpu":
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    raised = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
