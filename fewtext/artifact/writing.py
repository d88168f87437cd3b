"""Write an artifact's folder, file by file, in either style."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import normalizers
from torch import Tensor

from fewtext.artifact.layout import LAYOUT, Style
from fewtext.errors import ArtifactError
from fewtext.files import write_json, write_tensors
from fewtext.learners import MetaLearner, learner_class
from fewtext.nn.encoder import Encoder
from fewtext.nn.merge import merged
from fewtext.nn.pretrained import FILES


def check_place(folder: Path) -> None:
    """Raise an ArtifactError where an artifact cannot get a folder's place."""
    if not (folder / LAYOUT.description).is_file() and (folder.is_file() or any(folder.glob("*"))):
        raise ArtifactError(f"{folder}: not empty and not a fewtext artifact. Choose another folder.")
    if folder.exists() and folder.samefile(Path()):  # a shell would stay behind in the older one
        raise ArtifactError(f"{folder}: the folder you are in cannot be replaced. Change to another one first.")
    if os.path.ismount(folder):
        raise ArtifactError(f"{folder}: a mount point cannot be replaced. Choose a folder in it.")


def check_style(encoder: Encoder, style: Style) -> None:
    """Raise where an encoder cannot be saved as an adapter."""
    if style not in ("adapter", "merged"):
        raise ArtifactError(f"style={style!r}: it must be 'adapter' or 'merged'.")
    if style == "merged":
        return
    if encoder.source.id is None:
        raise ArtifactError(
            "style='adapter' names its base, and this one is a folder that no hub knows. Use 'merged'."
        )
    if not encoder.is_pretrained():
        raise ArtifactError("style='adapter': all weights of this encoder were trained. Use 'merged'.")


def library(description: Mapping[str, Any]) -> str:
    """Return the library that an artifact is made for, beside fewtext, by what `fewtext.json` holds."""
    if description["style"] == "adapter":
        return "peft" if description["encoder"]["lora"] else "fewtext"
    own_head = description["settings"].get("method") == "prototype"
    linear = not own_head or learner_class(description["learner"]["name"]).is_linear()
    return "transformers" if description["kind"] == "classifier" and linear else "sentence-transformers"


def write_adapter_style(learner: MetaLearner, folder: Path) -> None:
    """Write peft's files, where there is LoRA, and the tokenizer."""
    encoder = learner.encoder
    if encoder.lora is not None:
        _write_lora(encoder, folder)
    encoder.tokenizer.save_pretrained(folder)


def write_merged_style(
    learner: MetaLearner,
    head: Mapping[str, Tensor],
    labels: tuple[Any, ...],
    certainty: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write the encoder in full; where a classifier's head is linear, also what makes it a model of transformers.

    Transformers knows no temperature, so the weights it reads are divided by it.
    """
    encoder = learner.encoder
    model = merged(encoder.backbone, torch.float32)
    _write_encoder(encoder, model, folder / LAYOUT.encoder)
    if encoder.lora is not None:
        (folder / LAYOUT.adapter_folder).mkdir()
        _write_lora(encoder, folder / LAYOUT.adapter_folder)
    if not head or (linear := learner.linear(dict(head))) is None:
        return
    weights, weight, bias = linear
    temperature = certainty.get("temperature", 1.0)
    own = {"classifier.weight": weight / temperature, "classifier.bias": bias / temperature}
    own |= {f"dense.{name}": tensor for name, tensor in encoder.pool.dense.state_dict().items()}
    files = dict.fromkeys(own, LAYOUT.classifier)
    if weights:  # the task's own: not those in the encoder's folder
        own |= {f"encoder.{name}": tensor for name, tensor in _adapted(encoder, weights).items()}
        files = dict.fromkeys(own, LAYOUT.classifier)
    else:
        files |= dict.fromkeys(model.state_dict(), f"{LAYOUT.encoder}/model.safetensors")
    write_tensors(folder / LAYOUT.classifier, own)
    write_json(folder / LAYOUT.weights_index, {"metadata": {}, "weight_map": files})
    _write_config(encoder, [str(label) for label in labels], folder, several=certainty.get("several", False))
    _standalone_tokenizer(encoder).save_pretrained(folder)


@torch.no_grad()
def _adapted(encoder: Encoder, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the merged model's weights with a task's own instead of the encoder's."""
    before = {name: encoder.backbone.get_parameter(name).clone() for name in weights}
    try:
        for name, value in weights.items():
            encoder.backbone.get_parameter(name).copy_(value)
        return {name: value.clone() for name, value in merged(encoder.backbone, torch.float32).state_dict().items()}
    finally:
        for name, value in before.items():
            encoder.backbone.get_parameter(name).copy_(value)


def _write_config(encoder: Encoder, labels: list[str], folder: Path, *, several: bool) -> None:
    from fewtext.nn.sequence_classifier import FewtextConfig, FewtextForSequenceClassification

    layers: list[Any] = list(encoder.pool.dense)
    dense = [
        [layer.in_features, layer.out_features, layer.bias is not None, type(activation).__name__]
        for layer, activation in zip(layers[::2], layers[1::2], strict=True)
    ]
    config = FewtextConfig(
        encoder=_clean_config(encoder),
        pooling=encoder.pool.modes,
        dense=dense,
        skip=encoder.prompt_tokens,
        max_length=encoder.max_length,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        architectures=[FewtextForSequenceClassification.__name__],
        dtype="float32",
        problem_type="multi_label_classification" if several else "single_label_classification",
    )
    write_json(
        folder / LAYOUT.config, json.loads(config.to_json_string(use_diff=False)) | {"encoder": config.encoder}
    )


def _clean_config(encoder: Encoder) -> dict[str, Any]:
    """Return the encoder's configuration without what belongs to this machine or would ask for code."""
    config = encoder.backbone.config.to_dict()
    return {key: value for key, value in config.items() if not key.startswith("_") and "auto_map" not in key}


def _standalone_tokenizer(encoder: Encoder) -> Any:
    """Return a tokenizer that does by itself what the encoder does to texts: lower-casing, and the prompt."""
    recipe, tokenizer = encoder.recipe, copy.deepcopy(encoder.tokenizer)
    tokenizer.model_max_length = encoder.max_length
    before = [normalizers.Prepend(recipe.prompt)] if recipe.prompt else []
    before += [normalizers.Lowercase()] if recipe.lower_case else []
    if before:
        own = tokenizer.backend_tokenizer.normalizer
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(before + ([own] if own else []))
    return tokenizer


def _write_encoder(encoder: Encoder, model: Any, folder: Path) -> None:
    """Write a folder of its own that transformers and sentence-transformers read, too."""
    source = encoder.source.folder
    for path in sorted({path for pattern in FILES for path in source.glob(pattern) if path.is_file()}):
        if not path.name.startswith("model") or path.parent != source:
            place = folder / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _clean_config(encoder))
    write_tensors(folder / "model.safetensors", model.state_dict())


def _write_lora(encoder: Encoder, folder: Path) -> None:
    write_tensors(folder / LAYOUT.adapter, lora_tensors(encoder))
    config = encoder.backbone.peft_config["default"]
    config.revision = encoder.source.revision
    config.save_pretrained(str(folder))


def lora_tensors(encoder: Encoder) -> dict[str, Tensor]:
    """Return the adapter's tensors under peft's names; peft would ask the hub about the vocabulary if it could."""
    from peft import get_peft_model_state_dict  # a tenth of a second that a classifier without LoRA need not wait

    return get_peft_model_state_dict(encoder.backbone, save_embedding_layers=False)
