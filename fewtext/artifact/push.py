"""Push an artifact's folder to the hub: one commit, and proof of it.

`upload_folder` makes several commits and can leave half of the files; `create_commit` is one, but gives up when an
answer is lost, although the commit may have landed. So after every attempt the repository itself is asked: if it
holds exactly the folder, the push has succeeded; if it is as it was before, it is tried again; otherwise somebody
else was faster.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo

from fewtext.artifact.layout import LAYOUT, OWNED, matches
from fewtext.artifact.pull import FAILED, check_endpoint, is_final, reason, same_content, wait
from fewtext.errors import ArtifactError, HubError, PushConflictError

ATTEMPTS = 8
WAIT = 0.5  # seconds before the second attempt, doubled each time
T = TypeVar("T")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    branch: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str = "Push a fewtext model",
    tag: str | None = None,
) -> str:
    """Make the files of an artifact those of a repository, which is made if there is none; returns the commit.

    Files of an older artifact are removed in the same commit; others, like pictures for the card, stay.

    Args:
        folder: a saved artifact.
        repo_id: `owner/name`, the owner a user or an organisation.
        branch: made from the main one if there is none.
        private: of a new repository.
        token: of the hub, where the one that is logged in is not meant.
        message: of the commit.
        tag: for the commit.

    Raises:
        PushConflictError: somebody else pushed at the same time.
        HubError: the hub cannot be used, or does not let us.
    """
    check_endpoint()
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if matches(name, OWNED)}
    if LAYOUT.description not in files:
        raise ArtifactError(f"{folder.name}: no {LAYOUT.description}, so this is not a fewtext artifact.")
    api = HfApi(token=token)
    before = _prepared(api, repo_id, branch, private)
    if _holds(before, files):
        commit = str(before.sha)  # pushed already: no commit that changes nothing
    else:
        commit = _commit(api, repo_id, branch, files, before, message)
    if tag is not None:
        _tag(api, repo_id, tag, commit)
    return commit


def _prepared(api: HfApi, repo_id: str, branch: str | None, private: bool | None) -> ModelInfo:
    """Return what the repository holds, after making it and the branch where there are none."""
    failure = f"{repo_id}: nothing was pushed"
    _persist(lambda: api.create_repo(repo_id, private=private, exist_ok=True), failure)
    found = _info(api, repo_id, branch, failure)
    if found is None and branch is not None:
        _persist(lambda: api.create_branch(repo_id, branch=branch, exist_ok=True), failure)
        found = _info(api, repo_id, branch, failure)
    if found is None:
        raise HubError(f"{repo_id}: the hub has made it, and does not find it. Try again.")
    if private and found.private is False:
        raise HubError(
            f"{repo_id}: nothing was pushed, as it is public. Make it private first, or drop private=True."
        )
    return found


def _commit(
    api: HfApi, repo_id: str, branch: str | None, files: dict[str, Path], before: ModelInfo, message: str
) -> str:
    for attempt in range(ATTEMPTS):
        try:
            return _attempt(api, repo_id, branch, files, before, message)
        except HubError:
            raise
        except FAILED as error:
            problem = error
        now = _info(api, repo_id, branch, f"{repo_id}: it is not known whether the push has arrived, push again")
        if now is not None and _holds(now, files):
            return str(now.sha)
        if now is None or now.sha != before.sha:
            raise PushConflictError(
                f"{repo_id}: somebody else has pushed in the meantime. Look at what is there now, and push again."
            ) from problem
        if is_final(problem) or attempt == ATTEMPTS - 1:
            raise HubError(f"{repo_id}: nothing was pushed {reason(problem)}") from problem
        wait(WAIT * 2**attempt, repo_id, problem)
    raise AssertionError("unreachable")


def _attempt(
    api: HfApi, repo_id: str, branch: str | None, files: dict[str, Path], before: ModelInfo, message: str
) -> str:
    """Send large files, then all changes as one commit; returns it."""
    present = {file.rfilename for file in before.siblings or ()}
    stale = {name for name in present - files.keys() if matches(name, OWNED)}
    additions = [CommitOperationAdd(name, path) for name, path in files.items()]
    api.preupload_lfs_files(repo_id, additions, revision=branch, free_memory=False)
    # The client would leave these out and say nothing.
    if ignored := [file.path_in_repo for file in additions if getattr(file, "_should_ignore", False)]:
        raise HubError(f"{repo_id}: nothing was pushed, as its .gitignore excludes {ignored[0]}. Change it first.")
    operations = [*additions, *(CommitOperationDelete(name) for name in sorted(stale))]
    done = api.create_commit(repo_id, operations, commit_message=message, revision=branch, parent_commit=before.sha)
    return done.oid


def _tag(api: HfApi, repo_id: str, tag: str, commit: str) -> None:
    """Let a tag name the commit, and prove that it does: one that exists stays where it is."""
    failure = f"{repo_id}: pushed as {commit}, but not tagged"
    _persist(lambda: api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True), failure)
    named = _info(api, repo_id, tag, failure)
    if named is None or named.sha != commit:
        raise HubError(f"{failure}: {tag!r} names another commit already. Choose another tag, or delete that one.")


def _info(api: HfApi, repo_id: str, revision: str | None, failure: str) -> ModelInfo | None:
    """Return commit and files, or None where there is no such repository or branch."""

    def ask() -> ModelInfo | None:
        try:
            return api.model_info(
                repo_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None

    return _persist(ask, failure)


def _holds(info: ModelInfo, files: dict[str, Path]) -> bool:
    """Return whether the repository's files of an artifact are exactly these, by their hashes."""
    there = {file.rfilename: file for file in info.siblings or () if matches(file.rfilename, OWNED)}
    return there.keys() == files.keys() and all(same_content(path, there[name]) for name, path in files.items())


def _persist(request: Callable[[], T], failure: str) -> T:
    """Return what a request that may be repeated gives, as soon as the hub answers it."""
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except FAILED as error:
            if is_final(error) or attempt == ATTEMPTS - 1:
                raise HubError(f"{failure} {reason(error)}") from error
            wait(WAIT * 2**attempt, "hub", error)
    raise AssertionError("unreachable")
