"""Checkpoints that are there completely or not at all, and a lock on the folder they are in.

A checkpoint is written to a staging folder beside its place, every file is synced, the manifest of their hashes comes
last, and only then the folder gets its name; older ones are removed after that. So a run killed at any moment leaves
a checkpoint that verifies, and reading takes the newest one that does.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from fewtext.errors import ArtifactError, TrainingError
from fewtext.files import read_json, read_tensors, sha256, write_json, write_tensors

logger = logging.getLogger("fewtext")

STATE, MANIFEST = "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after `step` meta-steps: named groups of tensors, and everything else as plain JSON."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are.
        keep: how many to keep; at least 2, so that a damaged newest one has a predecessor.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), max(2, keep)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and remove those that are too old; returns its folder.

        Raises:
            TrainingError: it cannot be written; the earlier ones are untouched.
        """
        place = self.folder / f"step-{checkpoint.step:08d}"
        staging = self.folder / f".{place.name}-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left_over in self.folder.glob(".step-*"):
                shutil.rmtree(left_over)
            staging.mkdir()
            for name, tensors in checkpoint.tensors.items():
                write_tensors(staging / f"{name}.safetensors", tensors)
            write_json(staging / STATE, {"step": checkpoint.step, **checkpoint.state})
            files = sorted(staging.iterdir())
            write_json(staging / MANIFEST, {path.name: sha256(path) for path in files})
            for path in (*files, staging / MANIFEST, staging):
                _sync(path)
            if place.exists():
                shutil.rmtree(place)
            os.rename(staging, place)
            _sync(self.folder)
        except Exception as error:  # a full disk shows as an OSError, a SafetensorError or a RuntimeError
            shutil.rmtree(staging, ignore_errors=True)
            raise TrainingError(
                f"{place.name}: the checkpoint cannot be written ({error}). Free some space."
            ) from error
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old)
        return place

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None; damaged ones are named in the log."""
        for place in reversed(self._all()):
            try:
                for name, expected in read_json(place / MANIFEST).items():
                    if not (place / name).is_file() or sha256(place / name) != expected:
                        raise ArtifactError(f"{name} is damaged")
                state = read_json(place / STATE, most=2**30)
                tensors = {path.stem: read_tensors(path) for path in sorted(place.glob("*.safetensors"))}
            except ArtifactError as error:
                logger.warning("checkpoint %s cannot be used (%s); looking for an earlier one", place.name, error)
                continue
            return Checkpoint(state.pop("step"), tensors, state)
        return None

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.is_dir())


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Hold the lock of an output folder; the system lets go of it when the process ends, however it ends.

    Raises:
        TrainingError: another process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(blocking=False)
    except Timeout:
        raise TrainingError(f"{folder}: another process is writing there. Wait for it, or choose --out.") from None
    with lock:
        yield


def _sync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # and syncs only what is open to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
