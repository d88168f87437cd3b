"""A hub in memory that the real `huggingface_hub` client, transformers, peft and datasets accept, without Xet.

A test starts it and talks to it in its own process::

    from hub.server import Fault, Hub, client, running, without_waiting

    def test_a_lost_answer(monkeypatch, tmp_path):
        without_waiting(monkeypatch)
        hub = Hub("lfs")
        hub.faults.append(Fault("preupload", 1, "503"))
        with running(hub) as endpoint:
            api = client(monkeypatch, endpoint, tmp_path)

The client waits 1, 2, 4 ... seconds before it tries again, and no setting shortens that: `without_waiting` puts a
clock whose `sleep` is capped in the two modules that wait. A process that is no test calls it with
`pytest.MonkeyPatch()`. transformers, peft and datasets read HF_ENDPOINT when they are imported: run them in a process
of their own, as `hub/clients.py` is. The client's upload of large files is deprecated in httpx2, which pytest's
`ignore:Use 'content=:DeprecationWarning` silences.

Large files come from another origin, as from the real hub's storage: `localhost` for who asked 127.0.0.1.
"""

import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import NamedTuple

import huggingface_hub
import uvicorn
from huggingface_hub import HfApi, close_session, constants
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route, Router

from hub import routes
from hub.faults import Fault, harmed, refused
from hub.store import File, Refusal, Repo

TOKEN = "hf_test"
LARGE = 1000  # bytes; smaller files are part of the commit unless their name says otherwise


class Seen(NamedTuple):
    """A request that the hub was sent."""

    method: str
    path: str  # with the query, as it was sent
    has_authorization: bool
    host: str


class Hub:
    """Repositories by id, with `datasets/` in front for data sets, and what is to be known of who asked what.

    Args:
        mode: `lfs`, where large binary files and .safetensors travel on their own, or `regular`, where all are part
            of the commit.

    Attributes:
        repos: what there is, by id.
        storage: the bytes of large files, by their sha256, from before the commit on that has them.
        tokens: who may write, and read private repositories.
        requests: every request, in order.
        calls: how often each route was called; clear it to count faults from one again.
        faults: what is to go wrong.
        page: entries of a listing that come in one answer.
    """

    def __init__(self, mode="lfs"):
        self.mode = mode
        self.repos: dict[str, Repo] = {}
        self.storage: dict[str, bytes] = {}
        self.tokens = {TOKEN}
        self.requests: list[Seen] = []
        self.calls = Counter()
        self.faults: list[Fault] = []
        self.page = 1000
        table = [
            Route(path, self._answer(handle, access), methods=[method])
            for method, path, access, handle in routes.ROUTES
        ]
        self._router = Router(table, redirect_slashes=False)

    def commits(self, repo, revision="main"):
        """The commits of a branch, the first one first."""
        return self.repos[repo].history(revision)

    def tree(self, repo, revision="main"):
        """All files of a revision, by path."""
        return {path: file.content for path, file in self.repos[repo].at(revision).files.items()}

    def create(self, repo, private=False):
        """Make a repository without asking over the network."""
        self.repos[repo] = Repo(repo, private)

    def commit(self, repo, contents, branch="main"):
        """Move a branch without asking over the network, as another user would; None removes a file."""
        changes = {
            path: None if content is None else File(content, self.is_large(path, content, len(content)))
            for path, content in contents.items()
        }
        self.storage |= {file.sha256: file.content for file in changes.values() if file and file.lfs}
        return self.repos[repo].commit(branch, changes, "from elsewhere").sha

    def is_large(self, path, start, size):
        """Whether a file is stored outside of git, from its name, its size and how it begins."""
        binary = size > LARGE and b"\0" in start[:512]
        return self.mode == "lfs" and size > 0 and (binary or path.endswith(".safetensors"))

    async def __call__(self, scope, receive, send):
        """Log a request and route it by its path as sent, in which a revision is one segment."""
        path, query = scope["raw_path"].decode(), scope["query_string"].decode()
        headers = Headers(scope=scope)
        url = f"{path}?{query}" if query else path
        self.requests.append(Seen(scope["method"], url, "authorization" in headers, headers["host"]))
        await self._router({**scope, "path": path}, receive, send)

    def _answer(self, handle, access):
        """Return a route's endpoint; as nothing is awaited while it works, a request is done whole or not at all."""
        name = handle.__name__

        async def answer(request: Request):
            body = await request.body()
            self.calls[name] += 1
            faults = map(Fault._make, self.faults)
            kind = next((fault.kind for fault in faults if fault.strikes(name, self.calls[name])), None)
            return refused(kind) or harmed(self._done(routes.Call(self, request, body), handle, access), kind)

        return answer

    def _done(self, call, handle, access):
        try:
            self._admit(call, access)
            return handle(call)
        except Refusal as refusal:
            return refusal.answer()

    def _admit(self, call, access):
        """Refuse who may not do this, and say of a private repository that there is none."""
        sent = call.request.headers.get("authorization")
        known = sent is not None and sent.removeprefix("Bearer ") in self.tokens
        if access == "open":
            return
        if sent is not None and not known:
            raise Refusal(401, "Invalid credentials in Authorization header")
        if call.key and (call.key not in self.repos or (self.repos[call.key].private and not known)):
            raise Refusal(404 if known else 401, "Repository not found", "RepoNotFound")
        if access == "write" and not known:
            raise Refusal(401, "Invalid username or password.")


@contextmanager
def running(hub):
    """Serve a hub on a free port of this machine, from a thread, and give its endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # who connects before the thread listens waits here
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an answer's two writes are else 40 ms apart
        config = uvicorn.Config(
            hub,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # who cuts a connection wants no traceback
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            close_session()  # the next hub may get the same port, and must not meet this one's connections
            server.should_exit = True
            thread.join()


def client(monkeypatch, endpoint, home, token=TOKEN):
    """The real client as a user has it for whom this hub is the only one; returns an `HfApi`."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN", raising=False)
    return HfApi(endpoint=endpoint)


class _Clock:
    """The module `time`, but for the length of a sleep."""

    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        time.sleep(min(seconds, 0.02))


def without_waiting(monkeypatch):
    """The client tries again at once."""
    monkeypatch.setattr(huggingface_hub.utils._http, "time", _Clock())
    monkeypatch.setattr(huggingface_hub.file_download, "time", _Clock())
