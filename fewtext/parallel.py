"""What several processes agree on in one meta-step: the summed gradient, and whether all is well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from fewtext.errors import TrainingError

CHECKED = ("a weight", "the loss", "a gradient")


class GradientSum:
    """Sums gradients over episodes and processes.

    Args:
        weights: what is trained, the same on every process.
        accelerator: the processes.
        ordered: add the gradients of single episodes in the order of the episodes, so that the sum has the same bits
            on any number of processes; otherwise each process adds up its own first, which is faster.
    """

    def __init__(self, weights: Sequence[Tensor], accelerator: Accelerator, *, ordered: bool = False) -> None:
        self.weights, self.accelerator, self.ordered = list(weights), accelerator, ordered
        self._numbers = (0.0, 0.0)
        self._episodes: list[Tensor] = []
        if accelerator.num_processes > 1:  # in case processes drew their first weights from different seeds
            first = broadcast_object_list([[weight.detach().cpu() for weight in self.weights]])[0]
            with torch.no_grad():
                for weight, value in zip(self.weights, first, strict=True):
                    weight.copy_(value)

    def backpropagated(self, loss: float, accuracy: float) -> None:
        """Take note that one more micro-batch has added its gradients, and its shares of loss and accuracy."""
        if self.ordered:
            flat = self._flat()
            self._episodes.append(torch.cat([flat, flat.new_tensor([loss, accuracy])]))
            for weight in self.weights:
                weight.grad = None
        else:
            self._numbers = (self._numbers[0] + loss, self._numbers[1] + accuracy)

    def reduce(self) -> tuple[float, float]:
        """Leave the summed gradient in `.grad`; return loss and accuracy, summed and the same everywhere.

        Raises:
            TrainingError: a weight, the loss or a gradient is not finite on some process. Every process raises it,
                before any weight has changed.
        """
        several = self.accelerator.num_processes > 1
        if self.ordered:
            own = torch.stack(self._episodes)
            each: Any = self.accelerator.gather(own) if several else own
            total = each[0].clone()
            for episode in each[1:]:
                total += episode
        else:
            flat = self._flat()
            total = torch.cat([flat, flat.new_tensor(self._numbers)])
        self._numbers, self._episodes = (0.0, 0.0), []
        # A half-precision gradient may overflow: its scaler sees that and skips the step, on every process alike.
        scaled = self.accelerator.scaler is not None
        gradients, loss = total[:-2], total[-2]
        wrong = (
            not all(bool(weight.isfinite().all()) for weight in self.weights),
            not bool(loss.isfinite()),
            not scaled and not bool(gradients.isfinite().all()),
        )
        flags = total.new_tensor([float(flag) for flag in wrong])
        if several and self.ordered:
            flags = self._sum(flags)
        elif several:
            both = self._sum(torch.cat([total, flags]))
            total, flags = both[: len(total)], both[len(total) :]
        for what, count in zip(CHECKED, flags.tolist(), strict=True):
            if count:
                raise TrainingError(f"{what} is NaN or infinite. Lower the learning rates; no weight was changed.")
        *pieces, numbers = total.split([*(weight.numel() for weight in self.weights), 2])
        for weight, piece in zip(self.weights, pieces, strict=True):
            weight.grad = piece.view_as(weight)
        return float(numbers[0]), float(numbers[1])

    def _sum(self, values: Tensor) -> Tensor:
        summed: Any = self.accelerator.reduce(values, reduction="sum")
        return summed

    def _flat(self) -> Tensor:
        grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self.weights]
        return torch.cat([grad.reshape(-1) for grad in grads])
