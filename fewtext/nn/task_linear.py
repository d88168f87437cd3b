"""A linear layer whose weight may differ from task to task.

peft creates, names and saves the LoRA adapter; only its two small linears are replaced by this class, which
shares their parameter and state-dict key. With `torch.func.functional_call` the weight may then be `[T, out, in]`.
"""

from __future__ import annotations

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F


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
        by_task = input.reshape(self.weight.shape[0], -1, input.shape[-1])
        return (by_task @ self.weight.mT).reshape(*input.shape[:-1], -1)


def allow_task_weights(model: nn.Module) -> list[str]:
    """Replace the linears of every LoRA layer of `model`; returns the names of their weights."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for part in (module.lora_A, module.lora_B):
                for name, linear in part.items():
                    assert isinstance(linear, nn.Linear)
                    part[name] = TaskLinear.sharing(linear)
    linears = [name for name, module in model.named_modules() if isinstance(module, TaskLinear)]
    return [f"{name}.weight" for name in linears]
