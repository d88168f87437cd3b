"""Pure functions from embeddings to logits. Shapes: T tasks, S support rows, Q query rows, N classes, D embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def class_means(embeddings: Tensor, labels: Tensor, ways: int) -> tuple[Tensor, Tensor]:
    """Average the embeddings `[T, S, D]` of each class: means `[T, N, D]` and counts `[T, N]`.

    Rows with a negative label are absent; the mean of a class without rows is zero.
    """
    member = (labels[:, :, None] == torch.arange(ways, device=labels.device)).to(embeddings.dtype)
    counts = member.sum(dim=1)
    return member.mT @ embeddings / counts.clamp(min=1)[:, :, None], counts


def cosine(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Return the cosine similarity `[T, Q, N]` of queries `[T, Q, D]` and prototypes `[T, N, D]`."""
    return F.normalize(queries, dim=-1) @ F.normalize(prototypes, dim=-1).mT


def negative_squared_distance(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Return −‖q − p‖² `[T, Q, N]` for queries `[T, Q, D]` on the unit sphere and prototypes `[T, N, D]`."""
    queries = F.normalize(queries, dim=-1)
    return 2 * queries @ prototypes.mT - (prototypes**2).sum(-1)[:, None] - 1


def mask_classes(logits: Tensor, class_mask: Tensor) -> Tensor:
    """Make classes a task does not have, False in `class_mask` `[T, N]`, impossible in `logits` `[T, Q, N]`."""
    return logits.masked_fill(~class_mask[:, None], float("-inf"))
