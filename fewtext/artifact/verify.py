"""What is checked before anything of an artifact is used, and right after: files, description, answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewtext.artifact.layout import FORMAT_VERSION, LAYOUT, OWNED, READ, UNSIGNED, matches
from fewtext.data.collate import labels_of, ragged
from fewtext.errors import ArtifactError
from fewtext.files import read_json, sha256
from fewtext.heads import answers
from fewtext.learners.base import MetaLearner
from fewtext.tensors import Support

CANARIES = (
    "The kettle whistles before the tide turns.",
    "please move my violin lesson to thursday",
    "HOW many lanterns fit on the bridge??",
    "forty-two blue umbrellas, two of them broken",
    "I never said the glacier was for sale",
    "what",
    "Straße, café, 東京 and a 🦊",
    "a list: one, two, three, four, five, six, seven, eight, nine, ten, and then all of it once more from the start",
)
"""Texts that nobody has trained on, whose logits travel with an artifact."""
TOLERANCE = 1e-4  # of logits in full precision, relative to the largest of them: machines differ by about 1e-6
SUPPORTS = ((0, "open the window"), (0, "let some air in"), (1, "play a waltz"), (1, "some music, please"))
MOST_JSON = 2**20
MOST_RANK = 256
ENTRIES: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "fewtext_version": str,
    "style": str,
    "kind": str,
    "learner": dict,
    "encoder": dict,
    "labels": list,
    "settings": dict,
    "facts": dict,
    "canaries": list,
    "versions": dict,
}


def canary_logits(learner: MetaLearner, head: Mapping[str, Tensor], texts: tuple[str, ...] = CANARIES) -> Tensor:
    """Return the logits of made-up texts in full precision, `[n, N]`.

    Args:
        learner: the base.
        head: of a classifier; without one the learner adapts to two made-up classes.
        texts: which.
    """
    with learner.encoder.transformer.full_precision():
        if not head:
            tokenize = learner.encoder.tokenize
            labels, supports = zip(*SUPPORTS, strict=True)
            support = Support(
                ragged([tokenize(supports)]),
                labels_of([labels]),
                ragged([[[], []]]),
                torch.ones(1, 2, dtype=torch.bool),
            )
            with torch.no_grad():
                head = learner.adapt(support.to(learner.encoder.device))
        (logits,) = answers(learner, dict(head), texts, lambda logits: (logits,))
    return torch.from_numpy(logits)


def check_canaries(folder: Path, expected: Tensor, found: Tensor) -> None:
    """Raise where a loaded artifact does not give the logits it gave when it was saved."""
    if expected.shape != found.shape:
        raise ArtifactError(f"{folder.name}/{LAYOUT.canary}: logits {list(expected.shape)}, not {list(found.shape)}.")
    difference = float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"{folder.name}: answers differently than when it was saved (by {difference:.1e} of the largest logit, "
            f"{TOLERANCE:.0e} is allowed). Another version of transformers, or damaged files."
        )


def sign(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that the manifest lists."""
    files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: sha256(folder / name) for name in files if name not in UNSIGNED}


def check_files(folder: Path) -> None:
    """Raise where a file is damaged, missing, not listed in the manifest, or elsewhere.

    Files that fewtext does not read may be absent: a download leaves them out.
    """
    manifest = read_json(folder / LAYOUT.manifest)
    if wrong := next((name for name in manifest if not matches(name, OWNED)), None):
        raise ArtifactError(f"{folder.name}/{LAYOUT.manifest}: {wrong!r} is not a file of an artifact.")
    if absent := next((name for name in manifest if matches(name, READ) and not (folder / name).is_file()), None):
        raise ArtifactError(f"{folder.name}: {absent} is missing. Save or download it again.")
    home = folder.resolve()
    if folder.parent.name == "snapshots":  # the hub's cache links to files that are stored once
        home = folder.parents[1].resolve()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.resolve().is_relative_to(home):
            raise ArtifactError(f"{folder.name}: {name} is a link that leads out of the artifact.")
        # transformers would read more in the encoder's folder than an artifact may have.
        own = matches(name, OWNED) or name.startswith(f"{LAYOUT.encoder}/")
        if not path.is_file() or name in UNSIGNED or not own:
            continue
        if name not in manifest:
            raise ArtifactError(f"{folder.name}: {name} is not in {LAYOUT.manifest}. Remove it, or save again.")
        if path.suffix == ".json" and "tokenizer" not in name and path.stat().st_size > MOST_JSON:
            raise ArtifactError(f"{folder.name}: {name} has more than {MOST_JSON:,} bytes.")
        if sha256(path) != manifest[name]:
            raise ArtifactError(f"{folder.name}: {name} is damaged (its sha256 is not the manifest's).")


def check_description(folder: Path) -> dict[str, Any]:
    """Return what `fewtext.json` says.

    Raises:
        ArtifactError: a newer format, or entries that are missing or not what they must be.
    """
    where = f"{folder.name}/{LAYOUT.description}"
    found = read_json(folder / LAYOUT.description)
    if (version := found.get("format_version")) != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder.name}: format version {version}, this fewtext reads {FORMAT_VERSION}. "
            f"Use fewtext {found.get('fewtext_version', '(unknown)')} or newer."
        )
    for name, kind in ENTRIES.items():
        if not isinstance(found.get(name), kind):
            raise ArtifactError(f"{where}: {name!r} is missing or not what it must be.")
    lora = found["encoder"].get("lora")
    if lora is not None and not (
        isinstance(lora, dict)
        and isinstance(lora.get("rank"), int)
        and 0 < lora["rank"] <= MOST_RANK
        and isinstance(lora.get("targets"), list)
        and all(isinstance(name, str) and name.replace(".", "_").isidentifier() for name in lora["targets"])
    ):
        raise ArtifactError(f"{where}: LoRA of rank 1 to {MOST_RANK} on named layers is what can be used.")
    if not all(isinstance(text, str) and len(text) <= 1000 for text in found["canaries"]):
        raise ArtifactError(f"{where}: the canaries must be short texts.")
    return found
