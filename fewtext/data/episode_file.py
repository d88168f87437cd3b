"""Episodes as a file: row numbers and a hash of the data, so that others test on exactly the same tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewtext.data.sampler import Episode, EpisodeSampler, EpisodeSpec
from fewtext.data.texts import LabeledTexts
from fewtext.errors import EpisodeError

FORMAT_VERSION = 1
FIELDS = ("classes", "support", "support_labels", "query", "query_labels")


def write_episodes(path: str | Path, sampler: EpisodeSampler, number: int) -> Path:
    """Write the first `number` episodes of a sampler; returns the path."""
    drawn = [sampler[i] for i in range(number)]
    content = {
        "format_version": FORMAT_VERSION,
        "spec": str(sampler.spec),
        "seed": sampler.seed,
        "sources": [{"name": texts.name, "sha256": texts.fingerprint()} for texts in sampler.sources],
        "episodes": [
            {"source": episode.source} | {key: getattr(episode, key).tolist() for key in FIELDS} for episode in drawn
        ],
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def read_episodes(
    path: str | Path, sources: LabeledTexts | Sequence[LabeledTexts], spec: EpisodeSpec | None = None
) -> list[Episode]:
    """Read episodes written for these very texts, and of that specification if one is given.

    Raises:
        EpisodeError: not such a file, of other episodes, or the texts have changed since it was written.
    """
    own = [sources] if isinstance(sources, LabeledTexts) else list(sources)
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {content['format_version']}, this fewtext reads {FORMAT_VERSION}")
        written = content["spec"]
        hashes = [source["sha256"] for source in content["sources"]]
        episodes = [
            Episode(entry["source"], *(np.array(entry[key], dtype=np.int64) for key in FIELDS))
            for entry in content["episodes"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EpisodeError(f"{Path(path).name}: not a file of episodes ({type(error).__name__}: {error}).") from error
    if hashes != [texts.fingerprint() for texts in own]:
        names = ", ".join(texts.name for texts in own)
        raise EpisodeError(f"{Path(path).name}: written for other texts than {names}. Draw the episodes anew.")
    if spec is not None and written != str(spec):
        raise EpisodeError(f"{Path(path).name}: written for {written}, not {spec}. Ask for the same, or draw anew.")
    return episodes
