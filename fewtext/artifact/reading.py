"""Read the encoder of an artifact: by the name of its base, or from its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from fewtext.artifact.layout import LAYOUT
from fewtext.artifact.writing import lora_tensors
from fewtext.errors import ArtifactError
from fewtext.files import fill, read_json, read_tensors
from fewtext.nn.backbone import Lora
from fewtext.nn.encoder import Encoder

FORBIDDEN = ("auto_map", "trust_remote_code", "quantization_config", "attn_implementation")
MOST_LAYERS, MOST_WIDTH = 512, 65_536


def read_encoder(folder: Path, description: Mapping[str, Any]) -> Encoder:
    """Return the encoder with its adapter.

    Raises:
        ArtifactError: an adapter that does not fit, another base than the one named, or a configuration that asks
            for code, or for more memory than its weights fill.
    """
    facts = description["encoder"]
    lora = None if facts["lora"] is None else Lora(**facts["lora"] | {"targets": tuple(facts["lora"]["targets"])})
    if description["style"] == "merged":
        check_config(folder / LAYOUT.encoder)
        encoder = Encoder.from_pretrained(folder / LAYOUT.encoder, lora=lora, bf16=facts["bf16"])
        place = folder / LAYOUT.adapter_folder / LAYOUT.adapter
    else:
        encoder = Encoder.from_pretrained(facts["id"], revision=facts["revision"], lora=lora, bf16=facts["bf16"])
        if encoder.source.sha256 != facts["sha256"]:
            raise ArtifactError(
                f"{folder.name}: base {facts['id']} has other weights than those it was trained with."
            )
        place = folder / LAYOUT.adapter
    if lora is not None:
        fill(lora_tensors(encoder), read_tensors(place), f"{folder.name}/{LAYOUT.adapter}")
        if description["style"] == "merged":
            _take_out(encoder.backbone)
    return encoder


@torch.no_grad()
def _take_out(backbone: nn.Module) -> None:
    """Subtract from the weights what the adapters add to them, so that both together are what was saved."""
    from peft.tuners.lora import LoraLayer

    for layer in backbone.modules():
        if isinstance(layer, LoraLayer):
            layer.get_base_layer().weight.sub_(sum(layer.get_delta_weight(name) for name in layer.active_adapters))


def check_config(folder: Path) -> None:
    """Raise before anything large is made: a configuration may claim any size, the weights are what they are."""
    where, config = f"{folder.parent.name}/{folder.name}/{LAYOUT.config}", read_json(folder / LAYOUT.config)
    if asked := sorted(key for key in config if key.lstrip("_").startswith(FORBIDDEN)):
        raise ArtifactError(f"{where}: {asked[0]} is not allowed in an artifact.")
    try:
        with safe_open(folder / "model.safetensors", "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder.parent.name}/{folder.name}/model.safetensors: cannot be read ({error})."
        ) from error
    longest = max((max(shape, default=0) for shape in shapes), default=0)
    for key, value in config.items():
        size = key.endswith(("_size", "_dim", "_embeddings", "hidden_dim")) or key in (
            "dim",
            "max_position_embeddings",
        )
        most = longest if size else MOST_LAYERS if key.endswith(("_layers", "_heads", "_groups")) else None
        if most is not None and isinstance(value, int) and value > most:
            raise ArtifactError(f"{where}: {key} is {value:,}, and no weight is that large ({most:,} at most).")
