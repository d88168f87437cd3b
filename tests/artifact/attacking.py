"""What hostile artifacts are made with: changes of an artifact's folder, and the manifest remade after them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

Change = Callable[[Path], Any]

MANIFEST, CARD = "manifest.json", "README.md"


@dataclass(frozen=True)
class Attack:
    """A change of a valid artifact's folder.

    Attributes:
        change: makes it.
        style: of the artifact it is made to.
        signed: the manifest is remade after it.
    """

    change: Change
    style: str = "merged"
    signed: bool = True


ATTACKS: dict[str, Attack] = {}


def attack(name: str, *changes: Change, style: str = "merged", signed: bool = True) -> None:
    assert name not in ATTACKS, name
    ATTACKS[name] = Attack(lambda folder: [change(folder) for change in changes], style, signed)


def make(name: str, folder: Path) -> None:
    """Attack the artifact in a folder."""
    ATTACKS[name].change(folder)
    if ATTACKS[name].signed:
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, CARD)]
        hashes = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        listed = {path.relative_to(folder).as_posix(): value for path, value in hashes.items()}
        (folder / MANIFEST).write_text(json.dumps(listed))


def hub_cache(place: Path, tiny: Path) -> str:
    """Make a hub cache of the tiny encoder, and of what hostile artifacts name in its stead; returns the commit."""
    commit = "0123456789abcdef" * 2 + "01234567"
    changes = {"tiny": {}, "huge": {"vocab_size": 10**9}, "asks": {"attn_implementation": "user/repo"}}
    for name, changed in changes.items():
        folder = place / f"models--someone--{name}/snapshots/{commit}"
        shutil.copytree(tiny, folder)
        (folder.parents[1] / "refs").mkdir()
        (folder.parents[1] / "refs/main").write_text(commit)
        for key, value in changed.items():
            edit("config.json", key, value=value)(folder)
    return commit


def content(file: str, value: bytes | str) -> Change:
    def change(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(value.encode() if isinstance(value, str) else value)

    return change


def edit(file: str, *keys: Any, value: Any) -> Change:
    """Set an entry of a JSON file."""

    def change(folder: Path) -> None:
        whole = place = json.loads((folder / file).read_text("utf-8")) if (folder / file).exists() else {}
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        (folder / file).write_text(json.dumps(whole))

    return change


def without(file: str, key: str) -> Change:
    def change(folder: Path) -> None:
        kept = json.loads((folder / file).read_text("utf-8"))
        del kept[key]
        (folder / file).write_text(json.dumps(kept))

    return change


def tensors(file: str, new: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Change:
    def change(folder: Path) -> None:
        (folder / file).write_bytes(save(dict(new(load((folder / file).read_bytes()))), {"format": "pt"}))

    return change


def header(file: str, new: Callable[[dict[str, Any]], str | bytes]) -> Change:
    """Rewrite the header of a safetensors file and leave its data."""

    def change(folder: Path) -> None:
        whole = (folder / file).read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        made = new(json.loads(whole[8 : 8 + size]))
        made = made.encode() if isinstance(made, str) else made
        (folder / file).write_bytes(struct.pack("<Q", len(made)) + made + whole[8 + size :])

    return change


def instead(file: str, put: Callable[[Path, Path], Any]) -> Change:
    """Move a file or folder out of the artifact and put something into its place."""

    def change(folder: Path) -> None:
        outside = folder.parent / f"outside-{folder.name}"
        if (folder / file).exists():
            os.rename(folder / file, outside)
        put(folder / file, outside)

    return change
