"""Read how a pretrained model turns token vectors into one vector, from the files of sentence-transformers.

Modules come from an allow-list; what is not known is refused, never imported.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtext.errors import EncoderError

ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
POOLINGS = ("mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean")
MOST_PROMPT = 10_000
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Recipe:
    """How a model's token vectors become one vector per text.

    Attributes:
        pooling: names out of `POOLINGS`, concatenated.
        dense: `(folder, activation)` of each dense layer after pooling.
        prompt: put before every text.
        pool_prompt: whether the prompt's tokens take part in pooling.
        normalise: whether vectors are scaled to length 1.
        max_length: longest text in tokens, special tokens included; None leaves it to the tokenizer.
        lower_case: whether texts are lower-cased before tokenising.
    """

    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[tuple[Path, str], ...] = ()
    prompt: str = ""
    pool_prompt: bool = True
    normalise: bool = False
    max_length: int | None = None
    lower_case: bool = False


def read_recipe(folder: Path) -> Recipe:
    """Read a sentence-transformers model's modules, prompt and length; mean pooling for any other encoder.

    Raises:
        EncoderError: a module or pooling that is not known here.
    """
    modules = _json(folder / "modules.json", [])
    own = _json(folder / "config_sentence_transformers.json", {})
    limits = next((_json(path, {}) for path in sorted(folder.glob("sentence_*_config.json"))), {})
    pooling, dense, pool_prompt = ("mean",), [], True
    kinds = []
    for module in modules:
        if not isinstance(module, dict):
            raise EncoderError(f"{folder.name}: modules.json must hold a list of objects.")
        kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], str(module.get("path", ""))
        if not re.fullmatch(r"[\w.-]*", path) or path.startswith("."):
            raise EncoderError(f"{folder.name}: module path {path!r} leaves the model's folder.")
        if kind not in ORDER:
            raise EncoderError(f"{folder.name}: module {kind!r} is not known; known: {', '.join(ORDER)}.")
        kinds.append(kind)
        config = _json(folder / path / "config.json", {}) if kind in ("Pooling", "Dense") else {}
        if kind == "Pooling":
            pooling, pool_prompt = _pooling(config, folder), bool(config.get("include_prompt", True))
        elif kind == "Dense":
            dense.append((folder / path, str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]))
    if kinds != sorted(kinds, key=ORDER.index):
        raise EncoderError(f"{folder.name}: modules in the order {kinds}; only {' → '.join(ORDER)} is supported.")
    prompts = own.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise EncoderError(f"{folder.name}: prompts must be an object of names and texts.")
    prompt_name = own.get("default_prompt_name")
    if prompt_name is not None and prompt_name not in prompts:
        raise EncoderError(f"{folder.name}: the default prompt {prompt_name!r} is not among {sorted(prompts)}.")
    prompt, longest = prompts.get(prompt_name, ""), limits.get("max_seq_length")
    if not isinstance(prompt, str) or len(prompt) > MOST_PROMPT:
        raise EncoderError(f"{folder.name}: the prompt must be a text of at most {MOST_PROMPT:,} characters.")
    if longest is not None and (type(longest) is not int or longest < 1):
        raise EncoderError(f"{folder.name}: max_seq_length is {longest!r}, it must be a number of tokens.")
    return Recipe(
        pooling=pooling,
        dense=tuple(dense),
        prompt=prompt,
        pool_prompt=pool_prompt,
        normalise="Normalize" in kinds,
        max_length=longest,
        lower_case=bool(limits.get("do_lower_case", False)),
    )


def _pooling(config: dict[str, Any], folder: Path) -> tuple[str, ...]:
    modes = config.get("pooling_mode") or [mode for key, mode in LEGACY_POOLINGS.items() if config.get(key)]
    modes = tuple(modes) or ("mean",) if isinstance(modes, list) else (modes,)
    if unknown := [mode for mode in modes if mode not in POOLINGS]:
        raise EncoderError(f"{folder.name}: pooling {unknown[0]!r} is not known; known: {POOLINGS}.")
    return modes


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path.parent.name}/{path.name}: not valid JSON ({error}).") from error
    if not isinstance(value, type(default)):
        raise EncoderError(f"{path.parent.name}/{path.name}: must hold {'a list' if default == [] else 'an object'}.")
    return value
