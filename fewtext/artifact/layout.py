"""The file names of an artifact; they stand nowhere else.

Two styles have most of them in common. `adapter` names its base and holds peft's adapter files at the root, where
`PeftModel.from_pretrained` looks for them. `merged` stands alone: the encoder with its adapter merged is a
sentence-transformers model in `encoder/`, whose weights the transformers model at the root shares by its index; the
adapter rides along in `adapter/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

from fewtext.nn.pretrained import FILES

FORMAT_VERSION = 2
READABLE = (1, 2)
"""Versions of the format that are read; the first one knew no certainty and no texts."""
Style = Literal["adapter", "merged"]


@dataclass(frozen=True)
class Layout:
    """Names within the folder of an artifact."""

    description: str = "fewtext.json"
    learner: str = "learner.safetensors"
    head: str = "head.safetensors"
    canary: str = "canary.safetensors"
    texts: str = "texts.json"
    manifest: str = "manifest.json"
    card: str = "README.md"
    adapter: str = "adapter_model.safetensors"
    adapter_config: str = "adapter_config.json"
    adapter_folder: str = "adapter"
    encoder: str = "encoder"
    config: str = "config.json"
    weights_index: str = "model.safetensors.index.json"
    classifier: str = "classifier.safetensors"
    onnx: str = "onnx"
    run_learner: str = "learner"


LAYOUT = Layout()

OF_FEWTEXT = (LAYOUT.description, LAYOUT.manifest, LAYOUT.learner, LAYOUT.head, LAYOUT.canary, LAYOUT.texts)
"""What only fewtext reads, at the root."""

READ = (
    *OF_FEWTEXT,
    LAYOUT.adapter,
    LAYOUT.adapter_config,
    f"{LAYOUT.adapter_folder}/{LAYOUT.adapter}",
    f"{LAYOUT.adapter_folder}/{LAYOUT.adapter_config}",
    *(f"{LAYOUT.encoder}/{pattern}" for pattern in FILES),
)
"""Patterns of all that fewtext reads of an artifact, and so downloads."""

OWNED = (
    *READ,
    LAYOUT.card,
    LAYOUT.config,
    LAYOUT.weights_index,
    LAYOUT.classifier,
    f"{LAYOUT.onnx}/*",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)
"""Patterns of all that an artifact may hold; a push removes what is left of an older one."""

UNSIGNED = (LAYOUT.manifest, LAYOUT.card, ".gitattributes")
"""What the manifest does not list: people edit their cards."""


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a name within the artifact fits one of the patterns."""
    return ".." not in name.split("/") and any(fnmatch(name, pattern) for pattern in patterns)
