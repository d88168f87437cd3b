"""Load a transformers model with nothing executed and nothing missing, and put LoRA on it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from fewtext.errors import EncoderError
from fewtext.nn import attention
from fewtext.nn.pretrained import Pretrained

# Models that take absolute positions and 4-D masks from the caller, which is what packing needs. Those of the
# RoBERTa family count their positions from behind the padding token's number.
FROM_ZERO, FROM_PADDING = ("bert", "electra"), ("roberta", "xlm-roberta", "camembert")


def longest_text(config: Any) -> int:
    """Return how many tokens a model's positions suffice for."""
    taken = 2 if config.model_type == "mpnet" else first_position(config) or 0
    return getattr(config, "max_position_embeddings", 512) - taken


def first_position(config: Any) -> int | None:
    """Return the position of a text's first token, or None for a model whose texts cannot share a row."""
    if config.model_type in FROM_PADDING:
        return config.pad_token_id + 1
    return 0 if config.model_type in FROM_ZERO else None


GROWTH, MOST_GROWTH = {"ByteLevel": 2, "Metaspace": 2, "Precompiled": 16}, 2**12
"""How many times as long a step of a tokenizer may make a text, and all together."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the linear layers of an encoder (https://arxiv.org/abs/2106.09685).

    Attributes:
        rank: inner dimension R.
        alpha: the product of the two factors is scaled by alpha / rank.
        targets: names of the linear layers to adapt; empty means all of them.
        from_layer: adapt only layers from this one upwards.
    """

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ()
    from_layer: int = 0


def load_backbone(source: Pretrained) -> tuple[Any, Any]:
    """Return the transformers model, in full precision and without dropout, and its tokenizer.

    Raises:
        EncoderError: not readable, incomplete, or with weights that are not finite.
    """
    name = source.id or source.folder.name
    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
        _check_growth(tokenizer)
        tokenizer.chat_template = None  # never asked, and written as a file that no artifact may have
        # Named here, so that a config.json cannot ask for a kernel from the hub; some models have no fused one.
        kernels = (attention.NAME,) if first_position(config) is not None else ("sdpa", "eager")
        with _quiet():
            backbone, info = _load_weights(source, config, kernels)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EncoderError(f"base {name}: cannot be loaded ({reason}).") from error
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
        raise EncoderError(f"base {name}: {len(missing)} weights are missing, {missing[0]} first.")
    for key, weight in backbone.named_parameters():
        damaged = not weight.sum().isfinite() and not weight.isfinite().all()  # a sum is a tenth of the work
        if damaged and "pooler" not in key:
            raise EncoderError(f"base {name}: {key} holds NaN or infinite values; the file is damaged.")
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # often freshly initialised, and never used here
    # peft and transformers write this name into what they save; a local path must not get there.
    backbone.name_or_path = backbone.config._name_or_path = source.id or ""
    return backbone.eval(), tokenizer


def _check_growth(tokenizer: Any) -> None:
    """Raise where normalising may make a text far longer: forty steps that double it fill any memory."""
    backend, growth = getattr(tokenizer, "backend_tokenizer", None), 1.0
    steps = [
        _as_json(part) for part in (getattr(backend, "normalizer", None), getattr(backend, "pre_tokenizer", None))
    ]
    for step in steps:
        steps += step.get("normalizers", []) + step.get("pretokenizers", [])
        replaced = len(step.get("pattern", {}).get("String", "")) if step.get("type") == "Replace" else 0
        growth *= max(1, len(step.get("content", "")) / max(1, replaced)) * (1 + len(step.get("prepend", "")))
        growth *= GROWTH.get(step.get("type", ""), 1)
    if growth > MOST_GROWTH:
        raise ValueError(f"its tokenizer may make a text {growth:.3g} times as long")


def _as_json(part: Any) -> dict[str, Any]:
    try:
        return {} if part is None else json.loads(part.__getstate__())
    # What tokenizers raises for a part in Python, which comes from transformers and not from a file.
    except Exception:
        return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is checked here: missing weights, above all those of a pooler."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _load_weights(source: Pretrained, config: Any, kernels: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    try:
        return AutoModel.from_pretrained(
            source.folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=kernels[0],
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except ValueError:
        if len(kernels) == 1:
            raise
        return _load_weights(source, config, kernels[1:])


def attach_lora(backbone: Any, lora: Lora, seed: int) -> Any:
    """Return the model wrapped by peft, with fresh adapters drawn from `seed`.

    Raises:
        EncoderError: a target or a first layer that the model does not have.
    """
    # Only here: a classifier without adapters answers sooner.
    from peft import LoraConfig, get_peft_model

    from fewtext.nn.task_lora import allow_task_weights

    linears = {name.rsplit(".", 1)[-1] for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    if unknown := sorted(set(lora.targets) - linears):
        raise EncoderError(f"LoRA target {unknown[0]!r}: the encoder's linear layers are {sorted(linears)}.")
    depth = backbone.config.num_hidden_layers
    if not 0 <= lora.from_layer < depth:
        raise EncoderError(f"LoRA from layer {lora.from_layer}: the encoder has layers 0 to {depth - 1}.")
    targets = set(lora.targets or linears)
    if lora.from_layer:  # by their whole names: peft's own choice of layers finds no layers in some models
        targets = {
            name
            for name, module in backbone.named_modules()
            if isinstance(module, nn.Linear)
            and name.rsplit(".", 1)[-1] in targets
            and lora.from_layer <= layer_number(name)
        }
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=sorted(targets),
        task_type="FEATURE_EXTRACTION",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # peft asks transformers
        torch.manual_seed(seed)
        model = get_peft_model(backbone, config)
    # Other readers put the adapter on a model that still has its pooler, which must stay without one.
    config.exclude_modules = ["pooler.dense"]
    allow_task_weights(model)
    return model


def layer_number(name: str) -> int:
    """Return the number of the layer that a module is in, -1 for none."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), -1)


def is_unchanged(backbone: Any, source: Pretrained) -> bool:
    """Return whether the model still has the weights of its files."""
    own = {name: weight.cpu() for name, weight in backbone.state_dict().items()}
    for path in sorted(source.folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in set(file.keys()):
                key = name.removeprefix(f"{backbone.base_model_prefix}.")
                if key in own and not torch.equal(own[key], file.get_tensor(name).to(own[key].dtype)):
                    return False
    return True
