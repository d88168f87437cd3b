"""The meta-step of prototypical networks, against one padded batch in full precision.

    python recipes/benchmarks/speed.py --rows prototypical_step

LoRA on all linear layers, as meta-training has by default. The peer puts supports, names and queries of all tasks
into one padded batch of transformers and peft as they come.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import episodes
from harness import Benchmark, Side, serve

SCALE = 20.0


def ours(folder: Path) -> Side:
    """Prototypical, half of the loss against the examples and half against the names."""
    from fewtext import Prototypical
    from fewtext.nn.matmul import fast_matmul

    inputs, start = episodes.read(folder)
    learner = Prototypical(episodes.fewtext_encoder(inputs, start))

    def gradient(batch: Any) -> dict[str, Any]:
        learner.zero_grad()
        with fast_matmul():
            learner(batch).loss.backward()
        return {name: weight.grad for name, weight in learner.encoder.backbone.named_parameters() if "lora_" in name}

    return episodes.meta_steps(episodes.fewtext_batches(inputs, names=True), gradient, folder / "ours.npz")


def one_padded_batch(folder: Path) -> Side:
    """The same loss, all texts in one padded batch."""
    import torch
    from torch.nn import functional as F

    inputs, start = episodes.read(folder)
    model = episodes.peft_model(inputs, start)

    def gradient(batch: Any) -> dict[str, Any]:
        model.zero_grad()
        parts = [task[part] for task in batch for part in ("support", "names", "query")]
        vectors = iter(episodes.padded(model, [text for part in parts for text in part]).split([*map(len, parts)]))
        loss = torch.zeros(())
        for task in batch:
            support, names, query = (next(vectors) for _ in range(3))
            answers, labels = torch.tensor(task["query_labels"]), torch.tensor(task["support_labels"])
            means = torch.stack([support[labels == label].mean(0) for label in range(len(names))])
            for prototypes in (means, names):
                loss = loss + 0.5 * F.cross_entropy(SCALE * query @ F.normalize(prototypes, dim=-1).T, answers)
        (loss / len(batch)).backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    return episodes.meta_steps(inputs["batches"], gradient, folder / "peer.npz")


BENCHMARKS = (
    Benchmark(
        "prototypical_step",
        ours,
        one_padded_batch,
        "one padded fp32 batch",
        "s per meta-step",
        target=2.0,
        prepare=episodes.prepare,
        compare=episodes.compare,
    ),
)

if __name__ == "__main__":
    serve(globals())
