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
    if runs is None or (runs.is_one_text and not torch.is_grad_enabled()):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    heads, total, size = query.shape[1:]
    factor = size**-0.5 if scaling is None else scaling
    rows = (part[0].transpose(0, 1) for part in (query * factor, key, value))
    read = []
    for run, unread, q, k, v in zip(
        runs.sizes, runs.unread or repeat(None), *(_texts(part, runs) for part in rows), strict=False
    ):
        scores = q @ k.mT
        if unread is not None:
            scores = (scores.unflatten(0, (run[0], heads)) + unread[:, None].to(scores.dtype)).flatten(0, 1)
        read.append(_softmax(scores).to(v.dtype) @ v)
    if runs.read is None:
        parts = [part.unflatten(0, (-1, heads)).transpose(1, 2).flatten(0, 1) for part in read]
        out = torch.cat([*parts, query.new_zeros(runs.filler, heads, size)])
    else:
        out = torch.cat([part.flatten(0, 1) for part in read]).index_select(0, _by_head(runs, heads)[1])
    return out.view(1, total, heads, size), None


def _texts(rows: Tensor, runs: Runs) -> list[Tensor]:
    """Return the vectors `[total, heads, d]` as `[texts · heads, length, d]` for each run."""
    heads, size = rows.shape[1:]
    if runs.read is None:
        parts = rows.split([*(texts * length for texts, length in runs.sizes), runs.filler])
        zipped = zip(runs.sizes, parts, strict=False)
        return [part.unflatten(0, run).transpose(1, 2).flatten(0, 1) for run, part in zipped]
    # Vectors of single heads are gathered, which puts the heads before the tokens on the way.
    gathered = rows.reshape(-1, size).index_select(0, _by_head(runs, heads)[0])
    parts = gathered.split([texts * heads * length for texts, length in runs.sizes])
    return [part.view(-1, length, size) for (_, length), part in zip(runs.sizes, parts, strict=True)]


def _by_head(runs: Runs, heads: int) -> tuple[Tensor, Tensor]:
    """Return `read` and `write` for vectors of single heads, in the order text, head, token."""
    if heads not in runs.by_head:
        assert runs.read is not None
        assert runs.write is not None
        head, start, read, place = torch.arange(heads), 0, [], []
        for texts, length in runs.sizes:
            tokens = runs.read[start : start + texts * length].view(texts, 1, length)
            read.append((tokens * heads + head[:, None]).flatten())
            text, step = torch.arange(texts)[:, None, None], torch.arange(length)[:, None]
            place.append(((start + text * length) * heads + head * length + step).view(-1, heads))
            start += texts * length
        runs.by_head[heads] = torch.cat(read), torch.cat(place)[runs.write].flatten()
    return runs.by_head[heads]


def _softmax(scores: Tensor) -> Tensor:
    if scores.shape[-1] >= VECTOR or scores.device.type != "cpu":
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    raised = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
