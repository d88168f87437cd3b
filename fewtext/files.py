"""Files of tensors and JSON: checked when read, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewtext.errors import ArtifactError

MOST_JSON, MOST_HEADER = 4 * 2**20, 2**20
"""Bytes of JSON, 60,000 labels or so, and of what safetensors say of their content, 10,000 tensors or so."""


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content.

    Raises:
        ArtifactError: something else than a file, or one that cannot be read.
    """
    try:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; at the end it is synced and renamed, after an error removed."""
    path = path.resolve()  # what a link leads to is replaced, and the link stays
    staging = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        yield staging
        with staging.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def replace_folder(folder: Path, new: Path, old: Path, is_ours: Callable[[str], bool]) -> None:
    """Give a new folder the place of an older one, out of which all that is not ours moves along.

    A process that is killed meanwhile leaves in `old` what was there before and has not moved yet.

    Args:
        folder: the place, empty or not.
        new: the folder that is renamed.
        old: a free name beside it, for the older folder on its way out.
        is_ours: whether an entry of that name goes with the older folder.

    Raises:
        ArtifactError: it cannot be renamed, and then the older one is where it was; or not all could move along.
    """
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be replaced ({error}). Choose another folder.") from error
    finally:  # after Ctrl+C, too
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        elif old.exists():
            _move_along(old, folder, is_ours)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in a form that is the same whenever the value is."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")


def read_json(path: Path, *, most: int = MOST_JSON) -> dict[str, Any]:
    """Read a JSON object of at most `most` bytes.

    Raises:
        ArtifactError: no such file, or something else in it.
    """
    value = read_any_json(path, most=most)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path.parent.name}/{path.name}: must hold an object.")
    return value


def read_any_json(path: Path, *, most: int = MOST_JSON) -> Any:
    """Read JSON that is not too long and says nothing twice: of two entries, readers take different ones.

    Raises:
        ArtifactError: no such file, or something else in it.
    """
    try:
        with _opened(path) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ArtifactError(f"{path.parent.name}/{path.name}: more than {most:,} bytes of JSON.")
        return json.loads(content.decode(), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def tensor_kinds(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the kind of number and the shape of each tensor of a safetensors file, without reading the tensors.

    Raises:
        ArtifactError: not readable.
    """
    try:
        with _opened(path) as file:
            size = int.from_bytes(file.read(8), "little")
        if size > MOST_HEADER:
            raise ArtifactError(f"{path.parent.name}/{path.name}: a header of {size:,} bytes is too long.")
        with safe_open(path, "pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        ArtifactError: not readable, or values that are not finite.
    """
    tensor_kinds(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtifactError(f"{path.parent.name}/{path.name}: {name} holds NaN or infinite values.")
    return tensors


def fill(own: Mapping[str, Tensor], new: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the ones that share their name.

    Raises:
        ArtifactError: names, shapes or kinds of numbers that do not agree exactly; then nothing was copied.
    """
    if wrong := sorted(own.keys() ^ new.keys()):
        state = "is missing" if wrong[0] in own else "is not known"
        raise ArtifactError(f"{where}: {len(wrong)} tensors do not fit; {wrong[0]} {state}.")
    for name, tensor in own.items():
        if tensor.shape != new[name].shape:
            raise ArtifactError(f"{where}: {name} is {list(new[name].shape)}, {list(tensor.shape)} is needed.")
        if tensor.dtype != new[name].dtype:
            raise ArtifactError(f"{where}: {name} is {new[name].dtype}, {tensor.dtype} is needed.")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(new[name])


def _move_along(old: Path, folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Move what is not ours, and remove the rest once all of it has arrived."""
    try:
        for path in sorted(old.iterdir()):
            if not (is_ours(path.name) or (folder / path.name).exists()):
                os.rename(path, folder / path.name)
        shutil.rmtree(old)
    except OSError as error:
        raise ArtifactError(
            f"{folder}: saved, but not all other files could move along ({error}). Move what is left in {old}."
        ) from error


def _opened(path: Path) -> BufferedReader:
    """Open a file, and nothing that only looks like one: a pipe would never end."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.name}")
    return path.open("rb")


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path.parent.name}/{path.name}: cannot be read ({type(error).__name__}: {error}).")


def _once(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        (name, _), *_ = Counter(name for name, _ in entries).most_common(1)
        raise ValueError(f"{name[:100]!r} is there twice")
    return found
