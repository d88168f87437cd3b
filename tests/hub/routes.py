"""The routes of the hub, and a request as the functions behind them get it."""

import json
import re
from functools import cached_property
from urllib.parse import unquote

from hub import reading, writing
from hub.store import key_of


class Call:
    """A request, and what its path names: `key` is the repository's id, or "" where the path names none."""

    def __init__(self, hub, request, body):
        self.hub, self.request, self.body = hub, request, body
        self.path = {name: unquote(value) for name, value in request.path_params.items()}
        named = "owner" in self.path
        self.key = key_of(self.path.get("kind", "models"), self.path["owner"], self.path["name"]) if named else ""
        self.origin = f"http://{request.headers['host']}"

    @cached_property
    def json(self):
        return json.loads(self.body)

    @property
    def repo(self):
        return self.hub.repos[self.key]

    @cached_property
    def commit(self):
        """One for the whole request, even if a test moves the branch meanwhile."""
        return self.repo.at(self.path.get("revision", "main"))

    @property
    def storage(self):
        """Where large files are: this server under its other name, which is another origin to a client."""
        other = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}
        return re.sub("|".join(other), lambda found: other[found[0]], self.origin) + "/storage"


API = "/api/{kind}/{owner}/{name}"
MODEL = "/{owner}/{name}"
OTHER = "/{kind}/{owner}/{name}"  # data sets, whose address has a word in front
LFS, FILE = ".git/info/lfs/objects/batch", "/resolve/{revision}/{path:path}"
ROUTES = [  # who may: all, those who may read the repository, those who may write, or whoever knows the address
    ("GET", "/api/whoami-v2", "write", writing.whoami),
    ("POST", "/api/repos/create", "write", writing.create),
    ("DELETE", "/api/repos/delete", "write", writing.delete),
    ("POST", "/api/validate-yaml", "open", writing.validate_yaml),
    ("POST", API + "/preupload/{revision}", "write", writing.preupload),
    ("POST", MODEL + LFS, "write", writing.batch),
    ("POST", OTHER + LFS, "write", writing.batch),
    ("POST", "/api/lfs-verify", "write", writing.verify),
    ("PUT", "/storage/{oid}", "open", writing.upload),
    ("POST", API + "/commit/{revision}", "write", writing.commit),
    ("POST", API + "/tag/{revision}", "write", writing.tag),
    ("POST", API + "/branch/{branch}", "write", writing.branch),
    ("GET", API, "read", reading.info),
    ("GET", API + "/revision/{revision}", "read", reading.info),
    ("GET", API + "/tree/{revision}", "read", reading.tree),
    ("GET", API + "/tree/{revision}/{path}", "read", reading.tree),
    ("POST", API + "/paths-info/{revision}", "read", reading.paths_info),
    ("GET", API + "/refs", "read", reading.refs),
    ("GET", API + "/commits/{revision}", "read", reading.commits),
    ("HEAD", MODEL + FILE, "read", reading.head),
    ("HEAD", OTHER + FILE, "read", reading.head),
    ("GET", MODEL + FILE, "read", reading.resolve),
    ("GET", OTHER + FILE, "read", reading.resolve),
    ("GET", "/storage/{oid}", "open", reading.download),
]
