"""The same episodes and the same adapters for both sides of a meta-step, and padding for the side that pads.

Both sides read `inputs.json` (token numbers) and `start.npz` (the adapters and the head to start from); the peer
needs no fewtext.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from harness import Facts, Side

TASKS, WAYS, SHOTS, QUERIES = 4, 5, 5, 5  # 25 queries in all per task
BATCHES = 12  # so that a trial has episodes of its own, and what is remembered of texts seen before is no help


def prepare(folder: Path, material: Any, *, tasks: int = TASKS, **lora: Any) -> None:
    """Write meta-batches of tokenised episodes, and adapters whose second factor is not zero."""
    import numpy as np
    import torch

    from fewtext import Encoder, EpisodeSampler, EpisodeSpec, Lora

    encoder = Encoder.from_pretrained(material.base, lora=Lora(rank=8, alpha=16, **lora))
    sampler = EpisodeSampler(material.train, EpisodeSpec(WAYS, SHOTS, QUERIES), seed=0)
    texts, batches = material.train, []
    for batch in range(3 if material.quick else BATCHES):
        episodes = [sampler[number] for number in range(batch * tasks, (batch + 1) * tasks)]
        batches.append(
            [
                {
                    "support": encoder.tokenize([texts.texts[row] for row in episode.support]),
                    "support_labels": episode.support_labels.tolist(),
                    "query": encoder.tokenize([texts.texts[row] for row in episode.query]),
                    "query_labels": episode.query_labels.tolist(),
                    "names": encoder.tokenize([texts.words(label) for label in episode.classes]),
                }
                for episode in episodes
            ]
        )
    generator = torch.Generator().manual_seed(0)
    start = {name: weight.detach() for name, weight in encoder.backbone.named_parameters() if "lora_" in name}
    for name in start:
        if "lora_B" in name:
            start[name] = 0.02 * torch.randn(start[name].shape, generator=generator)
    start["head"] = torch.randn(encoder.dimension, generator=generator) / encoder.dimension**0.5
    np.savez(folder / "start.npz", **{name: weight.numpy() for name, weight in start.items()})
    (folder / "inputs.json").write_text(
        json.dumps({"base": str(material.base), "lora": lora, "batches": batches}), "utf-8"
    )


def read(folder: Path) -> tuple[Facts, dict[str, Any]]:
    """Return inputs, and the start as tensors."""
    import numpy as np
    import torch

    start = {name: torch.from_numpy(values) for name, values in np.load(folder / "start.npz").items()}
    return json.loads((folder / "inputs.json").read_text("utf-8")), start


def fewtext_encoder(inputs: Facts, start: dict[str, Any], *, bf16: bool = False) -> Any:
    """Return our encoder with the adapters of the start."""
    from fewtext import Encoder, Lora

    lora: Facts = {key: tuple(value) if isinstance(value, list) else value for key, value in inputs["lora"].items()}
    encoder = Encoder.from_pretrained(inputs["base"], lora=Lora(rank=8, alpha=16, **lora), bf16=bf16)
    put(encoder.backbone, start)
    return encoder


def fewtext_batches(inputs: Facts, *, names: bool) -> list[Any]:
    """Return the meta-batches as fewtext's learners take them."""
    import torch

    from fewtext.data.collate import labels_of, ragged
    from fewtext.tensors import EpisodeBatch, Query, Support

    batches = []
    for tasks in inputs["batches"]:
        words = ragged([task["names"] if names else [[]] * len(task["names"]) for task in tasks])
        mask = torch.ones(words.lengths.shape, dtype=torch.bool)
        labels, answers = (labels_of([task[f"{part}_labels"] for task in tasks]) for part in ("support", "query"))
        support = Support(ragged([task["support"] for task in tasks]), labels, words, mask)
        batches.append(EpisodeBatch(support, Query(ragged([task["query"] for task in tasks]), answers)))
    return batches


def peft_model(inputs: Facts, start: dict[str, Any]) -> Any:
    """Return the encoder as transformers and peft give it by default, with the adapters of the start."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = AutoModel.from_pretrained(inputs["base"], add_pooling_layer=False)
    depth, first = model.config.num_hidden_layers, inputs["lora"].get("from_layer", 0)
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=list(inputs["lora"].get("targets", ())) or ["query", "key", "value", "dense"],
        layers_to_transform=list(range(first, depth)),
    )
    model = get_peft_model(model, config).eval()  # without dropout, as the other side
    put(model, start)
    return model


def put(model: Any, start: dict[str, Any]) -> None:
    """Give a peft model the adapters of the start."""
    import torch

    own = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
    assert own.keys() == start.keys() - {"head"}
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(start[name])


def padded(model: Any, texts: Sequence[Sequence[int]]) -> Any:
    """Return mean-pooled unit vectors `[n, D]` of texts padded to the longest of them."""
    import torch
    from torch.nn import functional as F

    lengths = torch.tensor([len(ids) for ids in texts])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.long)
    ids[mask] = torch.tensor([token for text in texts for token in text])
    hidden = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return F.normalize((hidden * mask[..., None]).sum(1) / lengths[:, None], dim=-1)


def meta_steps(batches: Sequence[Any], gradient: Callable[[Any], dict[str, Any]], file: Path) -> Side:
    """Return a side whose trials are meta-steps; the first batch warms up, and its gradient is written in the end."""
    turn: Iterator[Any] = cycle(batches[1:])
    gradient(batches[0])

    def trial() -> None:
        gradient(next(turn))

    def finish() -> Facts:
        import numpy as np

        np.savez(file, **{name: values.numpy() for name, values in gradient(batches[0]).items()})
        return {}

    return Side(trial, finish)


def compare(folder: Path) -> Facts:
    """Return the relative difference of the two sides' meta-gradients."""
    import numpy as np

    ours, peer = (dict(np.load(folder / f"{side}.npz")) for side in ("ours", "peer"))
    assert ours.keys() == peer.keys()
    gap = sum(float(((ours[name] - peer[name]) ** 2).sum()) for name in peer)
    return {"gradient_difference": (gap / sum(float((values**2).sum()) for values in peer.values())) ** 0.5}
