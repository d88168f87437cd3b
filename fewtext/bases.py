"""What a classifier can stand on: a meta-trained learner, or an encoder as it was pretrained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from fewtext.artifact import LAYOUT, Artifact, is_artifact
from fewtext.artifact.pull import check_endpoint
from fewtext.heads import most_alike
from fewtext.learners import MetaLearner
from fewtext.learners.prototypical import Prototypical
from fewtext.nn.encoder import Encoder
from fewtext.nn.pretrained import MINILM
from fewtext.results import hardware

PAIRS = 5  # of classes that a card names as easily confused
logger = logging.getLogger("fewtext")


def names_artifact(base: str | Path) -> bool:
    """Return whether a folder or hub id is that of an artifact and not of an encoder; the hub is asked if need be."""
    if Path(base).is_dir():
        return is_artifact(base)
    name, patterns = str(base), [LAYOUT.description, "config.json"]
    try:
        cached = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
        if any((cached / pattern).is_file() for pattern in patterns):
            return (cached / LAYOUT.description).is_file()
    except HFValidationError:
        return False
    except LocalEntryNotFoundError:
        pass
    try:
        check_endpoint()
        return name != MINILM and HfApi().file_exists(name, LAYOUT.description)
    except OSError:  # no hub at hand: who needs the base will say so
        return False


_loaded: dict[str, tuple[int, MetaLearner]] = {}  # by base: when it was written, and what was read


def _load(base: str) -> MetaLearner:
    if names_artifact(base):
        return Artifact.from_pretrained(base).learner
    learner = Prototypical(Encoder.from_pretrained(base)).eval()
    logger.info("FewShotClassifier: base %s, as it was pretrained", base)
    return learner


def load_base(base: str | Path | Encoder | MetaLearner) -> MetaLearner:
    """Return the learner behind a base; what is named by a string is loaded once per process, unless it changes.

    Raises:
        EncoderError: no such encoder.
        ArtifactError: a folder with a damaged artifact.
    """
    if isinstance(base, MetaLearner):
        return base
    if isinstance(base, Encoder):
        return Prototypical(base).eval()
    name, folder = str(base), Path(str(base))
    written = max((own.lstat().st_mtime_ns for own in folder.iterdir()), default=0) if folder.is_dir() else 0
    if _loaded.get(name, (None,))[0] != written:
        _loaded[name] = written, _load(name)
    return _loaded[name][1]


def fit_facts(
    learner: MetaLearner, classes: Sequence[Any], shots: Sequence[int], means: Tensor | None, seconds: float
) -> dict[str, Any]:
    """Return what a model card says about fitting.

    Args:
        learner: the base.
        classes: the N labels.
        shots: texts of each.
        means: `[N, D]`, the classes' mean embeddings, where the method has them.
        seconds: that fitting took.
    """
    facts: dict[str, Any] = {
        "texts": sum(shots),
        "shots": {"min": min(shots), "max": max(shots)},
        "seconds": round(seconds, 3),
        "hardware": hardware(learner.encoder.device),
    }
    if means is not None:
        facts["confusable"] = [[classes[a], classes[b], cosine] for a, b, cosine in most_alike(means.cpu(), PAIRS)]
    return facts | ({"base": dict(learner.facts)} if learner.facts else {})
