"""Attention over texts that lie end to end: those of one length are one batch, so nothing is padded or masked.

transformers models call it under the name `NAME`; the lengths travel with the call as `runs`. Without them, and so
for everybody who calls the model in the usual way, it is PyTorch's fused attention.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from fewtext.nn.layout import Runs

NAME = "fewtext"
VECTOR = 16  # PyTorch's softmax over fewer float32 values than this does not use the vector units


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    runs: Runs | None = None,
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
        runs: which texts are one batch.
        kwargs: for the usual call.
    """
    if runs is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [part[0].transpose(0, 1) for part in (query * factor, key, value)]
    if runs.read is not None:
        rows = [part.flatten(1).index_select(0, runs.read).view(-1, *part.shape[1:]) for part in rows]
    pieces = (part.split([*(texts * length for texts, length in runs.sizes), runs.filler]) for part in rows)
    given = []
    for (texts, length), real, *parts in zip(runs.sizes, runs.real or repeat(None), *pieces, strict=False):
        q, k, v = (part.unflatten(0, (texts, length)).transpose(1, 2) for part in parts)
        scores = q @ k.mT if real is None else (q @ k.mT).masked_fill(~real, float("-inf"))
        given.append((_softmax(scores).to(v.dtype) @ v).transpose(1, 2).flatten(0, 1))
    if runs.filler:
        given.append(rows[0].new_zeros(runs.filler, *rows[0].shape[1:]))
    out = torch.cat(given)
    if runs.write is not None:
        out = out.flatten(1).index_select(0, runs.write).view(-1, *out.shape[1:])
    return out[None], None


def _softmax(scores: Tensor) -> Tensor:
    if scores.shape[-1] >= VECTOR or scores.device.type != "cpu":
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    raised = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
