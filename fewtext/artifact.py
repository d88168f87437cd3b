"""Artifacts: a trained learner or a fitted classifier as a folder of safetensors and JSON, and nothing else.

A folder is written beside its place and renamed into it, so it is there completely or not at all. On loading every
file is checked against the manifest before any of it is used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from fewtext.errors import ArtifactError, LearnerError
from fewtext.files import fill, read_json, read_tensors, sha256, write_json, write_tensors
from fewtext.learners import MetaLearner, learner_class
from fewtext.nn.backbone import Lora
from fewtext.nn.encoder import Encoder
from fewtext.nn.pretrained import FILES

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Layout:
    """The file names of an artifact; they stand nowhere else."""

    description: str = "fewtext.json"
    learner: str = "learner.safetensors"
    head: str = "head.safetensors"
    adapter: str = "adapter_model.safetensors"
    adapter_config: str = "adapter_config.json"
    encoder: str = "encoder"
    run_learner: str = "learner"
    manifest: str = "manifest.json"


LAYOUT = Layout()


@dataclass(frozen=True)
class Artifact:
    """What a folder holds.

    Attributes:
        kind: a meta-trained `learner`, or a fitted `classifier` with its head.
        learner: the learner, its encoder included.
        head: tensors of the fitted head.
        labels: the classifier's labels, in the order of its outputs.
        settings: the classifier's parameters.
        facts: how it came about: data, episodes, seeds, scores. Plain JSON, no paths, no tokens.
    """

    kind: Literal["learner", "classifier"]
    learner: MetaLearner
    head: Mapping[str, Tensor] = field(default_factory=dict)
    labels: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the artifact, replacing an older one in the same place; returns the folder.

        Raises:
            ArtifactError: the folder holds something that is not an artifact.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()) and not (folder / LAYOUT.description).is_file():
            raise ArtifactError(f"{folder}: not empty and not a fewtext artifact. Choose another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            staging = Path(place) / "new"
            staging.mkdir()
            self._write(staging)
            if folder.exists():
                os.rename(folder, Path(place) / "old")
            os.rename(staging, folder)
        return folder

    def _write(self, folder: Path) -> None:
        encoder = self.learner.encoder
        included = encoder.source.id is None or (encoder.lora is None and not encoder.is_pretrained())
        description = {
            "format_version": FORMAT_VERSION,
            "fewtext_version": metadata.version("fewtext"),
            "kind": self.kind,
            "learner": {"name": self.learner.name, "config": asdict(self.learner.config)},
            "encoder": {
                "id": encoder.source.id,
                "revision": encoder.source.revision,
                "sha256": encoder.source.sha256,
                "included": included,
                "lora": None if encoder.lora is None else asdict(encoder.lora),
                "bf16": encoder.bf16,
            },
            "labels": list(self.labels),
            "settings": dict(self.settings),
            "facts": dict(self.facts),
        }
        write_json(folder / LAYOUT.description, description)
        write_tensors(folder / LAYOUT.learner, self.learner.own_parameters())
        if self.head:
            write_tensors(folder / LAYOUT.head, self.head)
        if encoder.lora is not None:
            write_tensors(folder / LAYOUT.adapter, _adapter(encoder))
            encoder.backbone.peft_config["default"].save_pretrained(str(folder))
        if included:
            _write_encoder(encoder, folder / LAYOUT.encoder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        write_json(folder / LAYOUT.manifest, {path.relative_to(folder).as_posix(): sha256(path) for path in files})

    @classmethod
    def load(cls, source: str | Path, *, revision: str | None = None) -> Artifact:
        """Read an artifact from a folder or from the hub.

        Raises:
            ArtifactError: not found, incomplete, damaged, from a newer version, or another base than it names.
        """
        folder = locate_artifact(source, revision)
        _check_files(folder)
        description = read_json(folder / LAYOUT.description)
        if (version := description.get("format_version")) != FORMAT_VERSION:
            raise ArtifactError(
                f"{folder.name}: format version {version}, this fewtext reads {FORMAT_VERSION}. "
                f"Use fewtext {description.get('fewtext_version', '(unknown)')} or newer."
            )
        try:
            encoder = _read_encoder(folder, description["encoder"])
            own = description["learner"]
            kind = learner_class(own["name"])
            learner = kind(encoder, kind.Config(**own["config"]))
            fill(
                learner.own_parameters(),
                read_tensors(folder / LAYOUT.learner),
                f"{folder.name}/{LAYOUT.learner}",
            )
            head = read_tensors(folder / LAYOUT.head) if description["kind"] == "classifier" else {}
            return cls(
                kind=description["kind"],
                learner=learner.eval(),
                head=head,
                labels=tuple(description["labels"]),
                settings=description["settings"],
                facts=description["facts"],
            )
        except (KeyError, TypeError, LearnerError) as error:
            raise ArtifactError(f"{folder.name}/{LAYOUT.description}: cannot be used ({error}).") from error


def locate_artifact(source: str | Path, revision: str | None = None) -> Path:
    """Return the folder of an artifact given by folder or hub id.

    Raises:
        ArtifactError: there is none.
    """
    folder = Path(source)
    if not folder.is_dir():
        known = [name for name in vars(LAYOUT).values() if name not in (LAYOUT.encoder, LAYOUT.run_learner)]
        patterns = [*known, *(f"{LAYOUT.encoder}/{pattern}" for pattern in FILES)]
        try:
            folder = Path(snapshot_download(str(source), revision=revision, allow_patterns=patterns))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise ArtifactError(
                f"{source}: no such folder, and it cannot be had from the hub ({type(error).__name__})."
            ) from error
    folder = _inside(folder)
    if not (folder / LAYOUT.description).is_file():
        raise ArtifactError(f"{folder}: no {LAYOUT.description}, so this is not a fewtext artifact.")
    return folder


def is_artifact(folder: str | Path) -> bool:
    """Return whether a local folder holds an artifact."""
    return (_inside(Path(folder)) / LAYOUT.description).is_file()


def _inside(folder: Path) -> Path:
    """Return the artifact's own folder: that of a training run stands for the learner in it."""
    inner = folder / LAYOUT.run_learner
    return inner if not (folder / LAYOUT.description).is_file() and inner.is_dir() else folder


def describe(source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Return an artifact's description without loading any weights.

    Raises:
        ArtifactError: there is none, or it is not readable.
    """
    return read_json(locate_artifact(source, revision) / LAYOUT.description)


def _write_encoder(encoder: Encoder, folder: Path) -> None:
    """Write the encoder as a folder of its own that transformers and sentence-transformers read, too."""
    source = encoder.source.folder
    for path in sorted({path for pattern in FILES for path in source.glob(pattern) if path.is_file()}):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    if encoder.lora is None and not encoder.is_pretrained():
        for path in folder.glob("model*.safetensors*"):
            path.unlink()
        write_tensors(folder / "model.safetensors", encoder.backbone.state_dict())


def _read_encoder(folder: Path, facts: Mapping[str, Any]) -> Encoder:
    lora = None if facts["lora"] is None else Lora(**facts["lora"] | {"targets": tuple(facts["lora"]["targets"])})
    options = {"lora": lora, "bf16": facts["bf16"]}
    if facts["included"]:
        encoder = Encoder.from_pretrained(folder / LAYOUT.encoder, **options)
    else:
        encoder = Encoder.from_pretrained(facts["id"], revision=facts["revision"], **options)
        if encoder.source.sha256 != facts["sha256"]:
            raise ArtifactError(
                f"{folder.name}: base {facts['id']} has other weights than those it was trained with."
            )
    if lora is not None:
        adapter = read_tensors(folder / LAYOUT.adapter)
        fill(_adapter(encoder), adapter, f"{folder.name}/{LAYOUT.adapter}")
    return encoder


def _adapter(encoder: Encoder) -> dict[str, Tensor]:
    """Return the adapter's tensors under peft's names; peft would ask the hub about the vocabulary if it could."""
    from peft import get_peft_model_state_dict  # a tenth of a second that a classifier without LoRA need not wait

    return get_peft_model_state_dict(encoder.backbone, save_embedding_layers=False)


def _check_files(folder: Path) -> None:
    manifest = read_json(folder / LAYOUT.manifest)
    for name, expected in manifest.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink():
            raise ArtifactError(f"{folder.name}: {name} lies outside the artifact.")
        if not path.is_file():
            raise ArtifactError(f"{folder.name}: {name} is missing. Save or download it again.")
        if sha256(path) != expected:
            raise ArtifactError(f"{folder.name}: {name} is damaged (its sha256 is not the manifest's).")
    loaded = [*(folder / name for name in vars(LAYOUT).values()), *(folder / LAYOUT.encoder).rglob("*")]
    present = {path.relative_to(folder).as_posix() for path in loaded if path.is_file()} - {LAYOUT.manifest}
    if unknown := sorted(present - manifest.keys()):
        raise ArtifactError(f"{folder.name}: {unknown[0]} is not in {LAYOUT.manifest}. Remove it, or save again.")
