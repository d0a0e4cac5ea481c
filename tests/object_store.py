"""A real S3 server on this machine, and a proxy before it that does what networks and busy stores do.

The chaos proxies on the package indexes work on bare TCP, and none can answer as a busy S3 does, so that this is one of
our own.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.patience import until

STATUS = {"429": ("TooManyRequests", "Too Many Requests"), "500": ("InternalError", "Internal Server Error")}
STATUS["503"] = ("SlowDown", "Slow Down")

FAULTS = (
    "drop",
    "500",
    "503",
    "429",
    "500 after",
    "drop after",
    "cut upload",
    "cut download",
    "short download",
)
"""`after`: the server has done what was asked, and the client does not learn of it. A short download is one whose head
promises no more than comes, as from a broken cache."""

Schedule = Callable[[str, int], str]
"""The fault for a request, given its method and the bytes of its body; an empty string for none."""


def seeded(seed: int, share: float) -> Schedule:
    """One of all fitting faults, drawn evenly, for that share of the requests."""
    draw = random.Random(seed)

    def schedule(method: str, size: int) -> str:
        unfit = ["upload"] * (size == 0) + ["download"] * (method != "GET")
        fault = draw.choice([fault for fault in FAULTS if not fault.endswith(tuple(unfit))])
        return fault if draw.random() < share else ""

    return schedule


def scripted(*faults: str, method: str = "") -> Schedule:
    """The given faults for the next requests of a method, in their order; nothing after."""
    left = list(faults)
    return lambda used, size: left.pop(0) if left and method in ("", used) else ""


class FaultyProxy:
    """Stands before an HTTP server of this machine. One connection carries one request.

    Attributes:
        schedule: what goes wrong; may be changed at any time.
        requests, faults: requests that came, and what was done to them, by fault.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.schedule: Schedule = scripted()
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.run_until_complete(_end(asyncio.all_tasks(self._loop)))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method = head.split(b" ", 1)[0].decode()
        found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        size = int(found[1]) if found else 0
        self.requests += 1
        fault = self.schedule(method, size)
        self.faults.update(filter(None, [fault]))
        if fault == "drop":
            writer.transport.abort()
            return
        if re.search(rb"\r\nexpect: *100-continue", head, re.IGNORECASE):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        wanted = size // 2 if fault == "cut upload" else size
        body = await reader.readexactly(wanted)
        if fault in STATUS:
            writer.write(_error(fault, method))
            return
        reply = await self._forward(head, body, whole=wanted == size)
        if fault in ("cut upload", "drop after"):
            writer.transport.abort()
            return
        if fault == "500 after":
            reply = _error("500", method)
        elif "download" in fault:
            reply = _half(reply, told=fault == "short download")
        writer.write(reply)
        await writer.drain()

    async def _forward(self, head: bytes, body: bytes, *, whole: bool) -> bytes:
        """The server's whole answer; nothing where it was sent only a part of the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        unwanted = rb"\r\n(?:connection|expect):[^\r]*"
        writer.write(
            re.sub(unwanted, b"", head, flags=re.IGNORECASE)[:-2] + b"Connection: close\r\n\r\n" + body
        )
        await writer.drain()
        try:
            return await reader.read() if whole else b""
        finally:
            writer.close()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _half(reply: bytes, *, told: bool) -> bytes:
    """An answer with half of its body; `told`: with a head that fits."""
    head, _, body = reply.partition(b"\r\n\r\n")
    half = body[: len(body) // 2]
    if told:
        head = re.sub(rb"(\r\ncontent-length:)[^\r]*", rb"\1 %d" % len(half), head, flags=re.IGNORECASE)
    return head + b"\r\n\r\n" + half


def _error(status: str, method: str) -> bytes:
    code, words = STATUS[status]
    body = (
        f"<Error><Code>{code}</Code><Message>{words}, as injected</Message></Error>"
        if method != "HEAD"
        else ""
    )
    head = f"HTTP/1.1 {status} {words}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


class S3:
    """A moto server in a process of its own.

    Attributes:
        endpoint: its URL.
        client: a boto3 client that speaks to it directly.
    """

    def __init__(self, port: int) -> None:
        import boto3

        self.port, self.endpoint = port, f"http://127.0.0.1:{port}"
        self.client = boto3.client("s3", **_LOGIN, endpoint_url=self.endpoint)

    def objects(self, bucket: str) -> dict[str, int]:
        """Sizes of the objects in a bucket by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}

    def bytes_of(self, bucket: str, key: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()


_LOGIN = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@contextmanager
def s3_server(log: Path) -> Iterator[S3]:
    """Starts a server on a free port and stops it."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            found = until(
                lambda: re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read_text()),
                within=120,
                unless=lambda: (
                    f"the server has ended: {log.read_text()}" if process.poll() is not None else ""
                ),
            )
            yield S3(int(found[1]))
        finally:
            process.kill()


@contextmanager
def reached_at(endpoint: str, **more: str) -> Iterator[dict[str, str]]:
    """Lets `s3://` lead to an endpoint, here and in processes started meanwhile; gives their environment."""
    import s3fs

    names = {name.upper(): value for name, value in _LOGIN.items() if name != "region_name"}
    names |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": endpoint, **more}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            yield dict(os.environ)
        finally:
            s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One server for the whole session; see `bucket`."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log.txt") as server:
        yield server


@pytest.fixture
def bucket(s3: S3, request: pytest.FixtureRequest) -> str:
    """The name of a new, empty bucket."""
    name = (
        re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-") + f"-{time.monotonic_ns()}"[-8:]
    )
    s3.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    """A proxy before the server, without any fault as long as it has no other schedule."""
    faulty = FaultyProxy(s3.port)
    yield faulty
    faulty.close()
