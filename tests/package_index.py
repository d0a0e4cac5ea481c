"""Package indexes on loopback, with wheels of a few hundred bytes: one by HTTP, and PyTorch's by a proxy for HTTPS."""

from __future__ import annotations

import io
import ssl
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from packaging.utils import canonicalize_name

PYTORCH = "download.pytorch.org"


def wheel(
    name: str, version: str, metadata: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> bytes:
    """A wheel.

    Args:
        name: of the package.
        version: of the package.
        metadata: further lines of METADATA, such as `Requires-Dist: torch`.
        files: its files beside METADATA, WHEEL and RECORD; `@` at the start of a path stands for `.dist-info`.
    """
    info = f"{_filename_part(name)}-{version}.dist-info"
    head = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata]) + "\n"
    tag = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {f"{info}/METADATA": head, f"{info}/WHEEL": tag}
    content |= {path.replace("@", info): text for path, text in (files or {}).items()}
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return stream.getvalue()


def wheel_name(name: str, version: str) -> str:
    """The file name of a wheel for any Python and platform."""
    return f"{_filename_part(name)}-{version}-py3-none-any.whl"


def _filename_part(name: str) -> str:
    return canonicalize_name(name).replace("-", "_")


@dataclass(frozen=True)
class Index:
    """An index that runs, and what it was asked for."""

    url: str
    """Of the HTTP index, for pip and uv."""
    proxy: str
    """Of the proxy behind which PyTorch's index is; any other host is refused."""
    certificate: Path
    """What vouches for PyTorch's index."""
    requests: list[str]
    """Paths so far, of both indexes."""


@contextmanager
def serve(packages: Mapping[str, Mapping[str, Sequence[str]]], torch: str, folder: Path) -> Iterator[Index]:
    """Serve both indexes until the end of the context.

    Args:
        packages: of the HTTP index: for every normalised name its versions, each with further lines of METADATA.
        torch: the version that PyTorch's index has for every build, such as `2.13.0` for `2.13.0+cpu`.
        folder: for the certificate and its key.
    """
    certificate, key = _certificate(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        state: Any = server
        state.requests, state.simple, state.torch = [], packages, torch
        state.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        state.tls.load_cert_chain(certificate, key)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield Index(f"{address}/simple", address, certificate, state.requests)
        server.shutdown()
        thread.join()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for PyTorch's index that vouches for itself, and its key; both last a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PYTORCH)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PYTORCH)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[1].write_bytes(secret)
    return paths


class _Handler(BaseHTTPRequestHandler):
    """`/simple/NAME/[FILE]` is the HTTP index, `/whl/BUILD/torch/[FILE]` that of PyTorch."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.requests.append(path)
        *_, folder, name, file = path.split("/")
        build = {"torch": {f"{self.server.torch}+{folder}": ()}}
        versions = (self.server.simple if folder == "simple" else build).get(name, {})
        names = {wheel_name(name, version): version for version in versions}
        if not versions or (file and file not in names):
            self.send_error(404)
        elif file:
            self._answer(wheel(name, names[file], versions[names[file]]), "application/octet-stream")
        else:
            links = "".join(f'<a href="{quote(link)}">{link}</a>\n' for link in names)
            self._answer(f"<!DOCTYPE html>\n<html><body>{links}</body></html>".encode(), "text/html")

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_CONNECT(self) -> None:
        if self.path != f"{PYTORCH}:443":
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
