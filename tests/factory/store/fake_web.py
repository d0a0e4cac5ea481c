"""A web server that misbehaves as its paths say, in a thread of the test."""

from __future__ import annotations

import http.server
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Handler(http.server.BaseHTTPRequestHandler):
    """`/ok/NAME` gives the path's bytes; the other first parts of a path have a method each."""

    protocol_version = "HTTP/1.1"
    asked: Counter[str]
    over: threading.Event

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        kind, _, rest = self.path[1:].partition("/")
        with suppress(ConnectionError):
            getattr(self, f"give_{kind}", self.give_ok)(rest)

    def give_ok(self, rest: str) -> None:
        self._whole(self.path.encode())

    def give_status(self, rest: str) -> None:
        self.send_response(int(rest.partition("/")[0]))
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b"secret body")

    def give_to(self, rest: str) -> None:
        self.send_response(302)
        self.send_header("Location", rest)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give_endless(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        while not self.over.is_set():
            self.wfile.write(bytes(1 << 16))

    def give_gzip(self, rest: str) -> None:
        """Gzip of as many MiB of zeros as the path says; each is a block of its own, which may be repeated."""
        packer = zlib.compressobj(wbits=31)
        blocks = [packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
        self._whole(blocks[0] + blocks[1] * (int(rest) - 1) + packer.flush(), ("Content-Encoding", "gzip"))

    def give_slow(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.over.wait(0.05):
            self.wfile.write(b".")

    def give_silent(self, rest: str) -> None:
        self.over.wait()
        self.close_connection = True

    def _whole(self, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Web:
    """Attributes: root: the server's URL; asked: requests by path."""

    def __init__(self, port: int, asked: Counter[str]) -> None:
        self.root, self.asked = f"http://127.0.0.1:{port}", asked


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def fake_web() -> Iterator[Web]:
    asked, over = Counter[str](), threading.Event()
    with _Server(("127.0.0.1", 0), type("Given", (Handler,), {"asked": asked, "over": over})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield Web(server.server_port, asked)
        finally:
            over.set()
            server.shutdown()
            thread.join()
