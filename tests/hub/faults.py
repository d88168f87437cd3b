"""What can go wrong with an answer of the hub, on purpose."""

from typing import NamedTuple

from starlette.responses import Response

from hub.store import Refusal


class Fault(NamedTuple):
    """What goes wrong when a route is called for the `time`-th time, counted in `Hub.calls`.

    Kinds: `503` nothing is done; `always 500` nothing is done, then or later; `lost` all is done, but the answer is
    503; `cut` all is done, but the connection ends within the answer; `truncated` the answer ends half-way and claims
    to be whole; `flipped` one bit of the answer is wrong. The last three need an answer with a body.
    """

    route: str  # the name of a function in `hub.routes.ROUTES`, such as commit or download
    time: int
    kind: str

    def strikes(self, route, calls):
        later = self.kind == "always 500" and self.time < calls
        return self.route == route and (later or self.time == calls)


def refused(kind):
    """The answer to a request of which nothing was done, or None if it is to be done."""
    return Refusal(int(kind[-3:]), "The hub is not well").answer() if kind in ("503", "always 500") else None


def harmed(answer, kind):
    """An answer as it arrives, when what was asked for has been done."""
    if kind == "lost":
        return refused("503")
    if kind not in ("cut", "truncated", "flipped"):
        return answer
    body, half = bytearray(answer.body), len(answer.body) // 2
    if kind == "truncated":
        del body[half:]
    elif kind == "flipped":
        body[half] ^= 1
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return (_Cut if kind == "cut" else Response)(bytes(body), answer.status_code, headers)


class _Cut(Response):
    """An answer within which the connection ends."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
