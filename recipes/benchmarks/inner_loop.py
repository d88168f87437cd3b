"""First-order MAML's meta-step, against the sequential loop of clone, adapt and backward.

    python recipes/benchmarks/speed.py --rows inner_loop inner_loop_upper_half

The peer does, on transformers and peft as they come, what learn2learn does (https://arxiv.org/abs/2008.12284, which
does not build on current Pythons): for one task after the other, copy the model so that the copy's weights are
differentiable in the original's, move the copy's weights along the support's gradients, and send the query's gradient
back to the original. Both sides start from the same adapters and from one vector for every class.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import episodes
from harness import Benchmark, Side, serve

STEPS, STEP_SIZE, SCALE = 5, 0.02, 20.0


def fomaml(inputs: Any, start: dict[str, Any], *, bf16: bool = False) -> Any:
    """Return FirstOrderMAML with a learned start of the head."""
    import torch

    from fewtext.learners.gradient import FirstOrderMAML, GradientConfig

    config = GradientConfig(
        inner_steps=STEPS,
        inner_lr=STEP_SIZE,
        head_lr=STEP_SIZE,
        learn_step_sizes=False,
        head_start="learned",
        inner_loss="fit",
        scale=SCALE,
    )
    learner = FirstOrderMAML(episodes.fewtext_encoder(inputs, start, bf16=bf16), config)
    with torch.no_grad():
        learner.start.copy_(start["head"])
    return learner


def ours(folder: Path) -> Side:
    """FirstOrderMAML as meta-training runs it."""
    from fewtext.nn.matmul import fast_matmul

    inputs, start = episodes.read(folder)
    learner = fomaml(inputs, start)

    def gradient(batch: Any) -> dict[str, Any]:
        learner.zero_grad()
        with fast_matmul():
            learner(batch).loss.backward()
        own = {name: weight.grad for name, weight in learner.encoder.backbone.named_parameters() if "lora_" in name}
        return own | {"head": learner.start.grad}

    return episodes.meta_steps(episodes.fewtext_batches(inputs, names=False), gradient, folder / "ours.npz")


def sequential(folder: Path) -> Side:
    """One task after the other, each on a differentiable copy of the model."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    inputs, start = episodes.read(folder)
    model = nn.Module()
    model.backbone = episodes.peft_model(inputs, start)
    model.head = nn.Parameter(start["head"].repeat(len(inputs["batches"][0][0]["names"]), 1))

    def loss(own: Any, task: Any, part: str) -> Any:
        logits = SCALE * episodes.padded(own.backbone, task[part]) @ own.head.T
        return F.cross_entropy(logits, torch.tensor(task[f"{part}_labels"]))

    def gradient(batch: Any) -> dict[str, Any]:
        model.zero_grad()
        for task in batch:
            learner = clone(model)
            for _ in range(STEPS):
                adapt(learner, loss(learner, task, "support"))
            loss(learner, task, "query").backward()
        gradients = {
            name: weight.grad / len(batch) for name, weight in model.named_parameters() if weight.grad is not None
        }
        head = gradients.pop("head").sum(0)
        return {name.removeprefix("backbone."): values for name, values in gradients.items()} | {"head": head}

    return episodes.meta_steps(inputs["batches"], gradient, folder / "peer.npz")


def clone(module: Any) -> Any:
    """Return a copy of a module whose weights are differentiable copies of the module's."""
    own = copy.copy(module)
    own.__dict__["_parameters"] = {
        name: None if weight is None else weight.clone() for name, weight in module._parameters.items()
    }
    own.__dict__["_modules"] = {name: child and clone(child) for name, child in module._modules.items()}
    return own


def adapt(module: Any, loss: Any) -> None:
    """Move the trainable weights of a clone along the gradient, which counts as a constant (first order)."""
    import torch

    places = [
        (part, name) for part in module.modules() for name, weight in part._parameters.items() if weight is not None
    ]
    places = [(part, name) for part, name in places if part._parameters[name].requires_grad]
    gradients = torch.autograd.grad(loss, [part._parameters[name] for part, name in places])
    for (part, name), values in zip(places, gradients, strict=True):
        part._parameters[name] = part._parameters[name] - STEP_SIZE * values


ATTENTION = ("query", "value")
SEQUENTIAL: dict[str, Any] = {
    "peer": sequential,
    "against": "sequential loop (as learn2learn)",
    "unit": "s per meta-step",
    "compare": episodes.compare,
}
BENCHMARKS = (
    Benchmark("inner_loop", ours, target=4.5, prepare=partial(episodes.prepare, targets=ATTENTION), **SEQUENTIAL),
    Benchmark(
        "inner_loop_upper_half",
        ours,
        target=5.0,
        prepare=partial(episodes.prepare, targets=ATTENTION, from_layer=3),
        **SEQUENTIAL,
    ),
)

if __name__ == "__main__":
    serve(globals())
