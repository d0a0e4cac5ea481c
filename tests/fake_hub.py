"""A small server that answers as Hugging Face's hub does, with the requests that its file system makes."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask
import huggingface_hub
import pytest
from huggingface_hub import HfFileSystem
from werkzeug.serving import make_server

_REVISION = "main"


class FakeHub:
    """Data set repositories in memory.

    Attributes:
        files: by repository and path; of other revisions than main under `OWNER/NAME@REVISION`.
        gated: repositories whose files need a token that nobody has.
        faults: HTTP statuses for the next requests of file contents, in their order.
        requests: what was asked for, by kind.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.faults: list[int] = []
        self.requests: Counter[str] = Counter()
        app = flask.Flask("hub")
        api, repository = "/api/datasets/<owner>/<name>", "/datasets/<owner>/<name>"
        app.add_url_rule(api, view_func=self._info)
        app.add_url_rule(f"{api}/revision/<revision>", view_func=self._info)
        app.add_url_rule(f"{api}/tree/<revision>", view_func=self._tree)
        app.add_url_rule(f"{api}/tree/<revision>/<path:path>", view_func=self._tree)
        app.add_url_rule(f"{api}/paths-info/<revision>", view_func=self._paths, methods=["POST"])
        app.add_url_rule(f"{repository}/resolve/<revision>/<path:path>", view_func=self._resolve)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="hub", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _info(self, owner: str, name: str, revision: str = _REVISION) -> Any:
        self.requests["info"] += 1
        return self._wrong(owner, name, revision) or {"id": f"{owner}/{name}", "sha": "0" * 40}

    def _tree(self, owner: str, name: str, revision: str, path: str = "") -> Any:
        self.requests["tree"] += 1
        wrong = self._wrong(owner, name, revision)
        if wrong:
            return wrong
        start = f"{path}/" if path else ""
        entries: dict[str, Any] = {}
        for other, data in self._files(owner, name, revision).items():
            if other.startswith(start):
                first, slash, _ = other.removeprefix(start).partition("/")
                entries[first] = _folder(start + first) if slash else _file(other, data)
        return list(entries.values()) or _error(404, "EntryNotFound")

    def _paths(self, owner: str, name: str, revision: str) -> Any:
        self.requests["paths-info"] += 1
        files = self._files(owner, name, revision)
        wanted = flask.request.form.getlist("paths")
        found = [_file(path, files[path]) for path in wanted if path in files]
        folders = [path for path in wanted if any(other.startswith(f"{path}/") for other in files)]
        return found + [_folder(path) for path in folders]

    def _resolve(self, owner: str, name: str, revision: str, path: str) -> Any:
        self.requests["resolve"] += 1
        if self.faults:
            return _error(self.faults.pop(0), "")
        if f"{owner}/{name}" in self.gated:
            return _error(403, "GatedRepo")
        data = self._files(owner, name, revision).get(path)
        if data is None:
            return _error(404, "EntryNotFound")
        reply = flask.Response(data, mimetype="application/octet-stream")
        return reply.make_conditional(flask.request, accept_ranges=True, complete_length=len(data))

    def _wrong(self, owner: str, name: str, revision: str) -> flask.Response | None:
        if f"{owner}/{name}" not in self.files:
            return _error(401, "RepoNotFound")
        known = revision == _REVISION or f"{owner}/{name}@{revision}" in self.files
        return None if known else _error(404, "RevisionNotFound")

    def _files(self, owner: str, name: str, revision: str) -> dict[str, bytes]:
        return self.files[f"{owner}/{name}" + f"@{revision}" * (revision != _REVISION)]


@contextmanager
def hub_at_hand() -> Iterator[FakeHub]:
    """Lets `hf://` lead to a fake hub in this process."""
    hub = FakeHub()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        _, _, tail = template.partition("{repo_id}")
        patch.setattr(
            huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.endpoint}/{{repo_id}}{tail}"
        )
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        HfFileSystem.clear_instance_cache()
        try:
            yield hub
        finally:
            HfFileSystem.clear_instance_cache()
            hub.close()


def _file(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _error(status: int, code: str) -> flask.Response:
    return flask.Response("", status, headers={"X-Error-Code": code} if code else {})
