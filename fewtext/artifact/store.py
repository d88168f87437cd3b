"""An artifact in memory, and on the way to its folder and back.

A folder is written beside its place and renamed into it, so it is there completely or not at all. On loading every
file is checked against the manifest before any of it is used, and then the answers to some made-up texts.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from fewtext.artifact.card import model_card
from fewtext.artifact.entries import MOST_TEXT
from fewtext.artifact.layout import FORMAT_VERSION, LAYOUT, OWNED, Style, matches
from fewtext.artifact.pull import locate_artifact
from fewtext.artifact.push import push_folder
from fewtext.artifact.reading import read_encoder
from fewtext.artifact.verify import (
    CANARIES,
    canary_logits,
    check_canaries,
    check_description,
    check_files,
    checked_texts,
    sign,
    unusable,
)
from fewtext.artifact.writing import check_place, check_style, write_adapter_style, write_merged_style
from fewtext.errors import ArtifactError, HubError
from fewtext.files import fill, read_tensors, replace_folder, write_json, write_tensors
from fewtext.learners import MetaLearner, learner_class

logger = logging.getLogger("fewtext")
Onnx = Literal["fp32", "int8"]
GOING = (*OWNED, LAYOUT.encoder, LAYOUT.adapter_folder, LAYOUT.onnx, "results.json", "results.md", "test-*-shot.*")
"""Patterns of what goes with an older artifact when it is replaced: its parts, and what was measured on it."""
PACKAGES = ("torch", "transformers", "peft", "tokenizers")


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
        certainty: the classifier's temperature and thresholds; None where nothing is known about them.
        texts: the classifier's texts with their class numbers, where they are to be saved.
    """

    kind: Literal["learner", "classifier"]
    learner: MetaLearner
    head: Mapping[str, Tensor] = field(default_factory=dict)
    labels: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    certainty: Mapping[str, Any] | None = None
    texts: Mapping[str, Any] | None = None

    @property
    def style(self) -> Style:
        """The usual style: `adapter` for a learner whose base the hub knows, otherwise `merged`."""
        encoder = self.learner.encoder
        named = self.kind == "learner" and encoder.source.id is not None and encoder.is_pretrained()
        return "adapter" if named else "merged"

    def save_pretrained(
        self, folder: str | Path, *, style: Style | None = None, onnx: Onnx | None = None, repo_id: str | None = None
    ) -> Path:
        """Write the artifact, replacing an older one in the same place; returns the folder.

        Args:
            folder: where to; what is in there and no part of an artifact, like notes or `.git`, stays.
            style: `adapter` names its base, `merged` stands alone; by default what `style` says.
            onnx: also export a merged classifier to ONNX, in full precision or with a smaller copy in int8.
            repo_id: what the card calls it.

        Raises:
            ArtifactError: a folder not to be replaced, a style that is not possible, or nothing that could be loaded.
        """
        given, folder, style = Path(folder), Path(folder).resolve(), style or self.style
        check_style(self.learner.encoder, style)
        check_place(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            staging = Path(place) / folder.name
            staging.mkdir()
            self._write(staging, style, onnx, repo_id)
            _check(staging)
            replace_folder(folder, staging, Path(f"{place}-old"), lambda name: matches(name, GOING))
        return given

    def _write(self, folder: Path, style: Style, onnx: Onnx | None, repo_id: str | None) -> None:
        encoder = self.learner.encoder
        description = {
            "format_version": FORMAT_VERSION,
            "fewtext_version": metadata.version("fewtext"),
            "style": style,
            "kind": self.kind,
            "learner": {"name": self.learner.name, "config": asdict(self.learner.config)},
            "encoder": {
                "id": encoder.source.id,
                "revision": encoder.source.revision,
                "sha256": encoder.source.sha256,
                "trained": not encoder.is_pretrained(),
                "lora": None if encoder.lora is None else asdict(encoder.lora),
                "bf16": encoder.bf16,
            },
            "labels": list(self.labels),
            "settings": dict(self.settings),
            "facts": dict(self.facts),
            "certainty": None if self.certainty is None else dict(self.certainty),
            "canaries": list(CANARIES),
            "versions": {name: metadata.version(name) for name in PACKAGES},
        }
        write_json(folder / LAYOUT.description, description)
        write_tensors(folder / LAYOUT.learner, self.learner.own_parameters())
        if self.head:
            write_tensors(folder / LAYOUT.head, self.head)
        if self.texts is not None:
            write_json(folder / LAYOUT.texts, self.texts)
        write_tensors(folder / LAYOUT.canary, {"logits": canary_logits(self.learner, self.head)})
        if style == "adapter":
            write_adapter_style(self.learner, folder)
        else:
            write_merged_style(self.learner, self.head, self.labels, self.certainty or {}, folder)
        card = model_card(description) if repo_id is None else model_card(description, repo_id)
        (folder / LAYOUT.card).write_text(card, "utf-8")  # in place of peft's, where there is one
        write_json(folder / LAYOUT.manifest, sign(folder))
        if onnx is not None:
            from fewtext.artifact.onnx import export_onnx  # an extra, and not needed for loading

            export_onnx(folder, int8=onnx == "int8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        style: Style | None = None,
        onnx: Onnx | None = None,
        allow_data: bool = False,
        **how: Any,
    ) -> str:
        """Save the artifact, push it as one commit, and load it before and after; returns the commit.

        Where the line breaks after the push, so that it cannot be loaded, it is pushed all the same: a warning says
        that it was not checked.

        Args:
            repo_id: `owner/name`, the owner a user or an organisation.
            style: as in `save_pretrained`.
            onnx: as in `save_pretrained`.
            allow_data: push even if the card of the data says that models trained on them may not be published.
            how: see `push_folder`: branch, private, token, message, tag.

        Raises:
            PushConflictError: somebody else pushed at the same time.
            HubError: the hub cannot be used, or does not let us.
            ArtifactError: the data forbid it, what is on the hub is not what was pushed, or as in `save_pretrained`.
        """
        if not allow_data and (names := sorted(_unpublishable(self.facts))):
            raise ArtifactError(
                f"{repo_id}: trained on {', '.join(names)}, whose licence does not allow publishing models. "
                "If you have the permission, push with allow_data=True."
            )
        with tempfile.TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "artifact", style=style, onnx=onnx, repo_id=repo_id)
            Artifact.from_pretrained(folder)
            commit = push_folder(folder, repo_id, **how)
        try:
            Artifact.from_pretrained(repo_id, revision=commit, token=how.get("token"))
        except HubError as error:
            logger.warning("%s: pushed as %s, but not loaded from there to check it. %s", repo_id, commit, error)
        return commit

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, token: str | bool | None = None
    ) -> Artifact:
        """Read an artifact from a folder or from the hub.

        Args:
            source: folder or hub id.
            revision: commit, branch or tag on the hub.
            token: of the hub, where the one that is logged in is not meant.

        Raises:
            ArtifactError: not found, incomplete, damaged, from a newer version, or another base than it names.
            EncoderError: an encoder that cannot be loaded.
        """
        folder = locate_artifact(source, revision, token=token)
        check_files(folder)
        description = check_description(folder)
        head = read_tensors(folder / LAYOUT.head) if description["kind"] == "classifier" else {}
        with unusable(folder):
            own = description["learner"]
            kind = learner_class(own["name"])
            learner = kind(read_encoder(folder, description), kind.Config(**own["config"]))
            fill(learner.own_parameters(), read_tensors(folder / LAYOUT.learner), f"{folder.name}/{LAYOUT.learner}")
            loaded = cls(
                kind=description["kind"],
                learner=learner.eval(),
                head=head,
                labels=tuple(description["labels"]),
                settings=description["settings"],
                facts=description["facts"],
                certainty=description.get("certainty"),
                texts=checked_texts(folder, description),
            )
            learner.facts = loaded.facts if loaded.kind == "learner" else loaded.facts.get("base", {})
            found = canary_logits(learner, head, tuple(description["canaries"]))
        check_canaries(folder, read_tensors(folder / LAYOUT.canary)["logits"], found)
        return loaded


def _check(folder: Path) -> None:
    """Raise where what was written could not be loaded again."""
    try:
        checked_texts(folder, check_description(folder))
        read_tensors(folder / LAYOUT.canary)
    except ArtifactError as error:
        reason = str(error).partition(". ")[0].rstrip(".")  # without the advice to save it again
        raise ArtifactError(
            f"{folder.name}: not saved, and left as it was, since nobody could load it again ({reason}). Labels must "
            f"be strings, or numbers below 2**63, and texts have at most {MOST_TEXT:,} characters."
        ) from error


def _unpublishable(facts: Any) -> set[str]:
    """Return the names of data cards, anywhere in the facts, that forbid publishing what is trained on the data."""
    if isinstance(facts, list | tuple):
        return set().union(*map(_unpublishable, facts))
    if not isinstance(facts, Mapping):
        return set()
    own = {str(facts.get("name"))} if facts.get("publish_models") is False else set()
    return own.union(*map(_unpublishable, facts.values()))
