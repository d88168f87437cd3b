"""A line to the hub that breaks: a proxy which cuts connections after a number of bytes that a seed decides."""

import random
import select
import socket
import struct
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


class Chaos(ThreadingTCPServer):
    """Stand between a client and a hub, as a context manager within that of the hub.

    Each request is doomed with some probability: its connection breaks as soon as it or its answer has passed so many
    bytes, unless it is shorter. The client names this proxy as its host, so large files come through it, too.

    Args:
        hub: endpoint of the hub.
        seed: of all draws; which request gets which draw depends on the client's threads.
        probability: that a request is doomed; set the attribute to 0 to spare even those that are.
        most: bytes that a doomed request or its answer never reaches; how many it does is drawn evenly on a
            logarithmic scale, so that short requests are hit, too.

    Attributes:
        endpoint: what the client is to be given.
        cuts: how many connections were cut.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub, seed=0, probability=0.5, most=20_000):
        super().__init__(("127.0.0.1", 0), _Line)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.hub = urlsplit(hub).hostname, urlsplit(hub).port
        self.probability, self.most, self.cuts = probability, most, 0
        self.random = random.Random(seed)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def limits(self):
        """How many bytes of the next request and of its answer pass."""
        doomed = self.random.random() < self.probability
        limit = self.most ** self.random.random() - 1 if doomed else float("inf")
        return self.random.sample([limit, float("inf")], 2)


class _Line(BaseRequestHandler):
    """One connection, which ends when either side ends it or when it is cut."""

    def handle(self):
        with suppress(OSError), socket.create_connection(self.server.hub) as hub:
            other = {self.request: hub, hub: self.request}
            for side in other:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            before, left = hub, {}
            while True:
                for source in select.select(list(other), [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is self.request and before is hub:  # the client speaks again: this is a new request
                        left = dict(zip(other, self.server.limits(), strict=True))
                    before, left[source] = source, left[source] - len(data)
                    if left[source] < 0 and self.server.probability > 0:
                        other[source].sendall(data[: int(left[source])])
                        self.server.cuts += 1
                        return self._reset(*other)
                    other[source].sendall(data)

    def _reset(self, *sides):
        """Have both sides told, when they are closed, that the connection is gone rather than over."""
        for side in sides:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
