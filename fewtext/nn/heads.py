"""Pure functions from embeddings to logits. Shapes: T tasks, S support rows, Q query rows, N classes, D embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def class_means(embeddings: Tensor, labels: Tensor, ways: int) -> tuple[Tensor, Tensor]:
    """Average the embeddings `[T, S, D]` of each class: means `[T, N, D]` and counts `[T, N]`.

    Rows with a negative label are absent; the mean of a class without rows is zero.
    """
    return weighted_means(embeddings, _one_hot(labels, ways).to(embeddings.dtype))


def weighted_means(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Average rows `[T, R, D]` by their weights for each class `[T, R, N]`: means `[T, N, D]`, totals `[T, N]`.

    The mean of a class without weight is zero.
    """
    totals = weights.sum(dim=1)
    return weights.mT @ rows / totals.where(totals > 0, 1)[:, :, None], totals


def members(labels: Tensor, named: Tensor, name_weight: float) -> Tensor:
    """Return how much each example, and then each name, counts for each class: `[T, S + N, N]`.

    Args:
        labels: `[T, S]`, negative where there is no example; such a row counts for no class.
        named: `[T, N]`, 1 where a class has a name; of the precision that the result shall have.
        name_weight: how many examples a name counts for.
    """
    names = torch.diag_embed(named * name_weight)
    return torch.cat([_one_hot(labels, named.shape[1]).to(names.dtype), names], dim=1)


def left_out(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return x·m and ‖m‖² `[T, R, N]` of each row x, of length 1, and the mean m of each class's other rows.

    As in `weighted_means`, of rows `[T, R, D]` and weights `[T, R, N]`; no mean of D numbers is built per row.
    """
    sums, totals = weights.mT @ rows, weights.sum(dim=1, keepdim=True)
    along, rest = rows @ sums.mT, (totals - weights).clamp(min=torch.finfo(rows.dtype).eps)
    square = (sums**2).sum(-1)[:, None] - 2 * weights * along + weights**2
    return (along - weights) / rest, square / rest**2


def log_sum_exp(scores: Tensor, weights: Tensor) -> Tensor:
    """Return log Σ w exp(score) `[T, Q, N]` over rows, of scores `[T, Q, R]` and weights `[T, R, N]`.

    A class without weight gets a finite number that is smaller than any other.
    """
    top = scores.amax(dim=-1, keepdim=True).detach()
    return ((scores - top).exp() @ weights).clamp(min=torch.finfo(scores.dtype).tiny).log() + top


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


def _one_hot(labels: Tensor, ways: int) -> Tensor:
    return labels[:, :, None] == torch.arange(ways, device=labels.device)
