"""Find an artifact: a folder, or on the hub, where one commit is resolved once and a fixed list of files is read.

What arrives is compared with the hashes the hub tells; what is damaged, now or in the cache, is had again. Where the
hub does not answer, the copy in the cache will do.
"""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import RepoSibling

from fewtext.artifact.layout import LAYOUT, READ, matches
from fewtext.errors import ArtifactError, HubError
from fewtext.files import read_json, sha256, whole_or_absent
from fewtext.nn.pretrained import is_trusted

logger = logging.getLogger("fewtext")
HTTP_ERROR = cast("type[Exception]", HfHubHTTPError.__mro__[1])
"""What an answer with an error and a connection that broke both are, in whichever HTTP library the client uses."""
FAILED = (HTTP_ERROR, OSError, ValueError, RuntimeError)
"""What the client raises where the hub, the network or an answer failed: ValueError for an answer that is no JSON,
RuntimeError for a large file that did not get through."""
FINAL = (HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled)
"""Of these, what does not even get as far as the hub."""
ADVICE = {
    401: " Log in with `hf auth login`, or give a token.",
    403: " The token does not allow this.",
    404: " Check the name and the revision; what is private needs a token.",
    412: " Somebody else has pushed in the meantime.",
}
ATTEMPTS = 5
WAIT = 0.5  # seconds before the second attempt, doubled each time
MOST_BYTES = {".json": 64 * 2**20, ".txt": 64 * 2**20}
"""Of a file by its ending; tokenizers are the largest."""


def locate_artifact(
    source: str | Path,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    patterns: tuple[str, ...] = READ,
) -> Path:
    """Return the folder of an artifact given by folder or hub id.

    Args:
        source: folder or hub id.
        revision: commit, branch or tag on the hub.
        token: of the hub, where the one that is logged in is not meant.
        patterns: of the files to download.

    Raises:
        ArtifactError: there is none.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision, token, patterns)
    folder = _inside(folder)
    if not (folder / LAYOUT.description).is_file():
        raise ArtifactError(f"{folder.name}: no {LAYOUT.description}, so this is not a fewtext artifact.")
    return folder


def is_artifact(folder: str | Path) -> bool:
    """Return whether a local folder holds an artifact."""
    return (_inside(Path(folder)) / LAYOUT.description).is_file()


def describe(source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Return an artifact's description without loading any weights.

    Raises:
        ArtifactError: there is none, or it is not readable.
    """
    return read_json(locate_artifact(source, revision, patterns=(LAYOUT.description,)) / LAYOUT.description)


def check_endpoint() -> None:
    """Raise where the hub's address is neither https nor this machine."""
    if not is_trusted(constants.ENDPOINT):
        raise HubError("HF_ENDPOINT must begin with https://, or name this machine.")


def same_content(path: Path, file: RepoSibling) -> bool:
    """Return whether a local file has the content of one on the hub, which tells sha256 or the hash git uses."""
    if file.lfs is not None:
        return sha256(path) == file.lfs.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.blob_id


def is_final(error: Exception) -> bool:
    """Return whether asking again is no use: not allowed, not there, not a name."""
    if isinstance(error, ValueError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the client's words for what the hub finds wrong
    status = _status(error)
    return isinstance(error, FINAL) or (400 <= status < 500 and status not in (408, 429))


def reason(error: Exception) -> str:
    """Return what went wrong, in brackets, and what to do, without anything that was sent."""
    status = _status(error)
    detail = f", HTTP {status}" if status else ""
    if isinstance(error, OSError) and error.strerror is not None:
        detail = f", {error.strerror}"
    return f"({type(error).__name__}{detail}).{ADVICE.get(status, '')}"


def wait(seconds: float, source: str, error: Exception) -> None:
    """Say what went wrong, and give the hub some time."""
    logger.info("%s: %s Trying again in %.1f s.", source, reason(error), seconds)
    time.sleep(seconds)


def _status(error: Exception) -> int:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else 0


def _download(source: str, revision: str | None, token: str | bool | None, patterns: tuple[str, ...]) -> Path:
    """Return a snapshot of one commit."""
    check_endpoint()
    missing = f"{source}: no such folder, and it cannot be had from the hub"
    if constants.HF_HUB_OFFLINE:
        if (kept := _kept(source, revision, patterns)) is None:
            raise HubError(f"{missing}: it is not in the cache, and HF_HUB_OFFLINE is set.")
        return kept
    for attempt in range(ATTEMPTS):
        try:
            return _snapshot(source, revision, token, patterns)
        except ArtifactError:
            raise
        except FAILED as error:
            if is_final(error) or attempt == ATTEMPTS - 1:
                raise HubError(f"{missing} {reason(error)}") from error
            # Not at the first failure: a connection that was kept open may just have gone.
            kept = _kept(source, revision, patterns) if attempt > 0 else None
            if kept is not None and _is_whole(kept, patterns):
                logger.warning("%s: the hub does not answer; commit %s from the cache is used.", source, kept.name)
                return kept
            wait(WAIT * 2**attempt, source, error)
    raise AssertionError("unreachable")


def _kept(source: str, revision: str | None, patterns: tuple[str, ...]) -> Path | None:
    """Return the copy in the cache, or None if there is none."""
    try:
        return Path(
            snapshot_download(source, revision=revision, allow_patterns=list(patterns), local_files_only=True)
        )
    except (OSError, ValueError):
        return None


def _is_whole(folder: Path, patterns: tuple[str, ...]) -> bool:
    """Return whether all files have arrived, which older clients do not know."""
    if LAYOUT.manifest not in patterns:
        return (folder / LAYOUT.description).is_file()
    with suppress(ArtifactError):
        names = read_json(folder / LAYOUT.manifest)
        return all((folder / name).is_file() for name in names if matches(name, patterns))
    return False


def _snapshot(source: str, revision: str | None, token: str | bool | None, patterns: tuple[str, ...]) -> Path:
    info = HfApi(token=token).model_info(
        source, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    files = [file for file in info.siblings or () if matches(file.rfilename, patterns)]
    for file in files:
        most = MOST_BYTES.get(Path(file.rfilename).suffix)
        if most is not None and (file.size or 0) > most:
            raise ArtifactError(f"{source}: {file.rfilename} has {file.size:,} bytes, {most:,} are allowed.")
    commit = str(info.sha)
    folder = Path(snapshot_download(source, revision=commit, allow_patterns=list(patterns), token=token))
    if damaged := _damaged(folder, files):
        logger.warning("%s: %s is damaged and downloaded again.", source, ", ".join(damaged))
        snapshot_download(source, revision=commit, allow_patterns=damaged, token=token, force_download=True)
        if damaged := _damaged(folder, files):
            raise HubError(f"{source}: {damaged[0]} arrives damaged, twice now. Check the network, and try again.")
    _note(folder, revision or constants.DEFAULT_REVISION, commit)
    return folder


def _damaged(folder: Path, files: list[RepoSibling]) -> list[str]:
    """Return the names of files that are not what the hub says they are; the client compares sizes only."""
    known = [file for file in files if file.lfs is not None or file.blob_id is not None]
    return [file.rfilename for file in known if not same_content(folder / file.rfilename, file)]


def _note(folder: Path, revision: str, commit: str) -> None:
    """Keep in the cache which commit a branch or tag names, as the client does where it resolves them itself."""
    place = folder.parents[1] / "refs" / revision
    if revision == commit or ".." in revision or (place.is_file() and place.read_text() == commit):
        return
    with suppress(OSError):  # a cache that is only read
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_or_absent(place) as staging:
            staging.write_text(commit)


def _inside(folder: Path) -> Path:
    """Return the artifact's own folder: that of a training run stands for the learner in it."""
    inner = folder / LAYOUT.run_learner
    return inner if not (folder / LAYOUT.description).is_file() and inner.is_dir() else folder
