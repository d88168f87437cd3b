"""What can be saved and pushed because it has an artifact."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from fewtext.artifact.layout import Style
from fewtext.artifact.store import Artifact, Onnx


class Publishable:
    """Gives a class `save_pretrained` and `push_to_hub`."""

    @abstractmethod
    def _artifact(self, *, include_texts: bool = False) -> Artifact:
        """Return what is to be saved."""

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        style: Style = "merged",
        onnx: Onnx | None = None,
        include_texts: bool = False,
    ) -> Path:
        """Write it as safetensors and JSON; returns the folder.

        Args:
            folder: where to.
            style: `merged` stands alone and is a transformers model, too; `adapter` is small and names its base.
            onnx: also export a merged one to ONNX, in full precision or with a smaller copy in int8.
            include_texts: save the texts, too, so that it can be edited and explained when it is loaded again.

        Raises:
            ArtifactError: the folder holds something else, labels that JSON cannot hold, or an impossible style.
        """
        return self._artifact(include_texts=include_texts).save_pretrained(folder, style=style, onnx=onnx)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        style: Style = "merged",
        onnx: Onnx | None = None,
        include_texts: bool = False,
        **how: Any,
    ) -> str:
        """Push it to the hub as one commit, which it returns; see `save_pretrained` and `Artifact.push_to_hub`."""
        return self._artifact(include_texts=include_texts).push_to_hub(repo_id, style=style, onnx=onnx, **how)
