"""Files of tensors and JSON: checked when read, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewtext.errors import ArtifactError


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; at the end it is synced and renamed, after an error removed."""
    staging = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        yield staging
        with staging.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in a form that is the same whenever the value is."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: no such file, or something else in it.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.parent.name}/{path.name}: cannot be read ({type(error).__name__}).") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path.parent.name}/{path.name}: must hold an object.")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        ArtifactError: not readable, or values that are not finite.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path.parent.name}/{path.name}: cannot be read ({error}).") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtifactError(f"{path.parent.name}/{path.name}: {name} holds NaN or infinite values.")
    return tensors


def fill(own: Mapping[str, Tensor], new: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the ones that share their name.

    Raises:
        ArtifactError: names or shapes that do not agree exactly; then nothing was copied.
    """
    if wrong := sorted(own.keys() ^ new.keys()):
        state = "is missing" if wrong[0] in own else "is not known"
        raise ArtifactError(f"{where}: {len(wrong)} tensors do not fit; {wrong[0]} {state}.")
    for name, tensor in own.items():
        if tensor.shape != new[name].shape:
            raise ArtifactError(f"{where}: {name} is {list(new[name].shape)}, {list(tensor.shape)} is needed.")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(new[name])
