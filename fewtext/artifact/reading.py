"""Read the encoder of an artifact: by the name of its base, or from its own folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import AutoConfig, AutoModel
from transformers.initialization import no_init_weights
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from fewtext.artifact.layout import LAYOUT
from fewtext.artifact.writing import lora_tensors
from fewtext.errors import ArtifactError
from fewtext.files import fill, read_json, read_tensors, tensor_kinds
from fewtext.nn import encoder as encoders
from fewtext.nn.backbone import Lora, longest_text
from fewtext.nn.encoder import Encoder

FORBIDDEN_ANYWHERE = (
    "quantization_config",
    "tokenizer_object",
    "gguf_file",
    "configuration_files",  # names other files to read instead
    "fast_tokenizer_files",
)
FORBIDDEN = (*FORBIDDEN_ANYWHERE, "auto_map", "trust_remote_code")
"""In an artifact. A base may offer code, which is never asked for."""
TOKENIZER_CLASS = re.compile(r"(?!Auto)\w+Tokenizer(Fast)?|TokenizersBackend")
MOST_ENTRIES = 2**14  # of a list or an object in a configuration
MOST_NUMBER = 2**17  # in a configuration, whatever the weights are: positions that have no weights, above all
FEW, SLACK = 64, 2**21  # of tensors and of numbers that a model may have beside its weights


def read_encoder(folder: Path, description: Mapping[str, Any]) -> Encoder:
    """Return the encoder with its adapter.

    Raises:
        ArtifactError: an adapter that does not fit, another base than the one named, or a configuration that asks
            for code, or for more memory than its weights fill.
    """
    facts = description["encoder"]
    lora = None if facts["lora"] is None else Lora(**facts["lora"] | {"targets": tuple(facts["lora"]["targets"])})
    merged = description["style"] == "merged"
    place = folder / LAYOUT.adapter_folder if merged else folder
    if merged:
        _check_encoder(folder / LAYOUT.encoder, f"{folder.name}/{LAYOUT.encoder}")
        encoder = Encoder.from_pretrained(folder / LAYOUT.encoder, lora=lora, bf16=facts["bf16"])
    else:
        encoder = _named_base(folder, facts, lora)
    _check_lengths(encoder, folder.name)
    _check_adapter(place, facts)
    if lora is not None:
        fill(lora_tensors(encoder), read_tensors(place / LAYOUT.adapter), f"{folder.name}/{LAYOUT.adapter}")
        if merged:
            _take_out(encoder.backbone)
    return encoder


def _named_base(folder: Path, facts: Mapping[str, Any], lora: Lora | None) -> Encoder:
    if facts["id"] is None:
        raise ArtifactError(f"{folder.name}/{LAYOUT.description}: an adapter, and no base is named.")
    source = encoders.locate(facts["id"], facts["revision"])
    if source.sha256 != facts["sha256"]:
        raise ArtifactError(f"{folder.name}: base {facts['id']} has other weights than those it was trained with.")
    _check_encoder(source.folder, f"{folder.name}: base {facts['id']}", own=False)
    return Encoder.from_pretrained(facts["id"], revision=facts["revision"], lora=lora, bf16=facts["bf16"])


@torch.no_grad()
def _take_out(backbone: nn.Module) -> None:
    """Subtract from the weights what the adapters add to them, so that both together are what was saved."""
    from peft.tuners.lora import LoraLayer

    adapted: list[Any] = [layer for layer in backbone.modules() if isinstance(layer, LoraLayer)]
    for layer in adapted:
        layer.get_base_layer().weight.sub_(sum(layer.get_delta_weight(name) for name in layer.active_adapters))


def _check_adapter(folder: Path, facts: Mapping[str, Any]) -> None:
    """Raise where what peft reads of an adapter is not what the description says."""
    path, lora = folder / LAYOUT.adapter_config, facts["lora"]
    if lora is None:
        if path.exists() or (folder / LAYOUT.adapter).exists():
            raise ArtifactError(f"{folder.name}/{path.name}: there is an adapter, and {LAYOUT.description} has none.")
        return
    found, base = read_json(path), (facts["id"], "", None)
    same = {"peft_type": "LORA", "r": lora["rank"], "lora_alpha": lora["alpha"], "auto_mapping": None}
    wrong = [key for key, value in (same | {"megatron_config": None}).items() if found.get(key) != value]
    wrong += [] if found.get("base_model_name_or_path") in base else ["base_model_name_or_path"]
    wrong += [] if isinstance(found.get("target_modules"), list) else ["target_modules"]
    if wrong:
        raise ArtifactError(f"{folder.name}/{path.name}: {wrong[0]} is not what {LAYOUT.description} says.")


def _check_encoder(folder: Path, where: str, *, own: bool = True) -> None:
    """Raise before anything large is made: a configuration may ask for anything, the weights are what they are.

    Args:
        folder: of the encoder.
        where: what messages call it.
        own: it was written as a part of the artifact, so there is nothing in it but what the model needs.
    """
    kinds = [kind for path in folder.glob("model*.safetensors") for kind in tensor_kinds(path).values()]
    longest = max([MOST_NUMBER, *(max(shape, default=0) for _, shape in kinds)])
    for path in (folder / LAYOUT.config, folder / "tokenizer_config.json"):
        if path.is_file():
            _check_entries(read_json(path), longest, f"{where}/{path.name}", own)
    kinds_of_model = [value for key, value in _entries(read_json(folder / LAYOUT.config)) if key == "model_type"]
    if len(kinds_of_model) != 1 or kinds_of_model[0] not in {**ENCODERS, **CLASSIFIERS}:  # nested ones may be any
        raise ArtifactError(f"{where}/{LAYOUT.config}: {kinds_of_model!r:.100} is no model of texts of transformers.")
    _check_size(folder, kinds, where, own)


def _check_entries(config: Mapping[str, Any], longest: int, where: str, own: bool) -> None:
    """Raise where a configuration asks for code, for other files, or for more than any weight has."""
    for key, value in _entries(config):
        if key in (FORBIDDEN if own else FORBIDDEN_ANYWHERE) or (
            "implementation" in key and (own or "/" in str(value))  # with a slash: code from the hub
        ):
            raise ArtifactError(f"{where}: {key:.100} is not allowed.")
        if isinstance(value, dict | list) and len(value) > MOST_ENTRIES:
            raise ArtifactError(f"{where}: {key:.100} has {len(value):,} entries, {MOST_ENTRIES:,} are allowed.")
        if type(value) is int and longest < abs(value) and not key.endswith(("_theta", "model_max_length")):
            raise ArtifactError(f"{where}: {key:.100} is {value:.3g}, and no weight is that large ({longest:,}).")
    name = config.get("tokenizer_class")
    if name is not None and not (isinstance(name, str) and TOKENIZER_CLASS.fullmatch(name)):
        raise ArtifactError(f"{where}: {name!r:.100} is not a tokenizer.")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of all objects in JSON, the outermost first."""
    found = [value]
    for value in found:
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        yield from value.items() if isinstance(value, dict) else ()


def _check_size(folder: Path, kinds: list[tuple[str, tuple[int, ...]]], where: str, own: bool) -> None:
    """Raise where the model that the configuration describes is not one of these weights."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    there = sum(prod(shape) for kind, shape in kinds if kind == "F32" or (not own and kind in ("F16", "BF16", "F64")))
    table = max(config.vocab_size, longest_text(config)) * config.hidden_size
    if table > max(there, SLACK):
        raise ArtifactError(f"{where}: {LAYOUT.config} asks for {table:,} numbers, there are {there:,}.")
    with torch.device("meta"), no_init_weights(), _at_most(2 * len(kinds) + FEW, there + SLACK, where):
        model = AutoModel.from_config(config, attn_implementation="eager", trust_remote_code=False)
    needed = sum(weight.numel() for name, weight in model.named_parameters() if "pooler" not in name)
    more = sum(buffer.numel() for buffer in model.buffers() if buffer.is_floating_point())
    if there < needed or (own and there > needed + more):
        raise ArtifactError(f"{where}: {LAYOUT.config} asks for {needed:,} numbers in full precision, not {there:,}.")


@contextmanager
def _at_most(tensors: int, numbers: int, where: str) -> Iterator[None]:
    """Within this context, raise as soon as the modules made in this thread have more parameters and buffers."""
    thread, made = get_ident(), []

    def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        if tensor is not None and get_ident() == thread:
            made.append(tensor.numel())
            if len(made) > tensors or made[-1] > numbers:
                raise ArtifactError(f"{where}: {LAYOUT.config} asks for more than its weights fill.")

    hooks = register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_lengths(encoder: Encoder, where: str) -> None:
    """Raise where the tokenizer does not keep to the longest text."""
    if encoder.max_length < 1 or len(encoder.tokenize(["a " * encoder.max_length])[0]) > encoder.max_length:
        raise ArtifactError(f"{where}: the tokenizer does not cut texts to {encoder.max_length} tokens.")
