"""Repositories as the hub keeps them: a commit is a whole tree that never changes, and names point at commits."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from starlette.responses import JSONResponse

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"  # what a new repository has on the real hub, too


class Refusal(Exception):
    """An error as the hub answers it; `code` is what the client makes its typed errors of."""

    def __init__(self, status, message, code=None, commit=None):
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit

    def answer(self):
        told = {"X-Error-Message": self.message, "X-Error-Code": self.code, "X-Repo-Commit": self.commit}
        headers = {name: value for name, value in told.items() if value}
        return JSONResponse({"error": self.message}, self.status, headers)


def key_of(kind, owner, name):
    """The id of a repository as its address has it; models have nothing in front."""
    return f"{owner}/{name}" if kind in ("model", "models") else f"{kind.removesuffix('s')}s/{owner}/{name}"


def git_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class File(NamedTuple):
    """The bytes of a file, and whether git holds them itself or a pointer to them."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self):
        spec = "version https://git-lfs.github.com/spec/v1"
        return f"{spec}\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def git_id(self):
        return git_id(self.pointer if self.lfs else self.content)

    @property
    def etag(self):
        """The name of the file in a client's cache."""
        return self.sha256 if self.lfs else self.git_id

    def large(self, name):
        """What a listing says of a file under large file storage, whose hash has another name in every listing."""
        told = {name: self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return {"lfs": told} if self.lfs else {}


class Commit(NamedTuple):
    """A state of a repository: every file there is, by path."""

    sha: str
    parent: str | None
    title: str
    message: str
    date: str
    files: Mapping[str, File]

    def below(self, folder):
        """The files in a folder and further down; the empty name is the root."""
        start = f"{folder}/" if folder else ""
        return {path: file for path, file in self.files.items() if path.startswith(start)}

    def listed(self, path):
        """What a listing says of a file or a folder, or None."""
        if file := self.files.get(path):
            entry = {"type": "file", "path": path, "size": len(file.content), "oid": file.git_id}
            return entry | file.large("oid")
        if below := self.below(path):
            oid = git_id(repr([(name, file.git_id) for name, file in below.items()]).encode())
            return {"type": "directory", "path": path, "oid": oid, "size": 0}
        return None


class Repo:
    """One repository: commits, and the branches and tags that point at them."""

    def __init__(self, key, private=False):
        self.key, self.private = key, private
        self.commits, self.branches, self.tags = {}, {"main": None}, {}
        self.commit("main", {".gitattributes": File(ATTRIBUTES)}, "initial commit")

    def commit(self, branch, changes, title, message="", onto=None):
        """Put a commit on a branch, or onto a new one that starts there.

        None in `changes` removes a file, or a folder if the name ends in a slash.
        """
        if branch not in self.branches:
            raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        parent = self.branches[branch]
        files = dict(self.commits[parent].files) if parent else {}
        for path, file in changes.items():
            gone = [name for name in files if name == path or (path.endswith("/") and name.startswith(path))]
            if file is None and not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
            if file is not None:
                files[path] = file
        files = dict(sorted(files.items()))
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        names = [(path, file.etag) for path, file in files.items()]
        sha = hashlib.sha1(repr((self.key, len(self.commits), parent, title, names)).encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, title, message, date, MappingProxyType(files))
        self.branches[onto or branch] = sha
        return self.commits[sha]

    def at(self, revision):
        """The commit that a branch, a tag, or seven or more digits of a commit name."""
        sha = self.branches.get(revision) or self.tags.get(revision)
        if sha is None and len(revision) >= 7:
            sha = next((known for known in self.commits if known.startswith(revision)), None)
        if sha is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def history(self, revision="main"):
        """The commits up to a revision, the first one first."""
        found = [self.at(revision)]
        while found[0].parent:
            found.insert(0, self.commits[found[0].parent])
        return found
