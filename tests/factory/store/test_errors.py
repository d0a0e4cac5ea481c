"""Stores that refuse: what was wrong, at which URL, and what to do, whatever the driver made of the answer."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import OutputError, Reject, SourceError
from factory.output.reference import Source
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.sources.webdataset import WebDatasetSource
from factory.store import remote
from factory.store.errors import meaning
from factory.store.retries import Patience, may_pass
from factory.store.storage import Storage
from tests.object_store import reached_at

ANSWERS = {
    "expired": (400, "ExpiredToken", "the credentials have expired: get new ones"),
    "badtoken": (400, "InvalidToken", "the credentials have expired"),
    "skewed": (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
    "moved": (301, "PermanentRedirect", r"another region \(eu-central-1\): set AWS_DEFAULT_REGION"),
    "malformed": (400, "AuthorizationHeaderMalformed", r"another region \(eu-central-1\)"),
    "denied": (403, "AccessDenied", "access is denied"),
    "unknown": (403, "InvalidAccessKeyId", "does not know the access key"),
    "unsigned": (403, "SignatureDoesNotMatch", "correct AWS_SECRET_ACCESS_KEY"),
    "nowhere": (404, "NoSuchBucket", "no (such )?bucket"),
}
ARCHIVED = b"not to be read"


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does, by the bucket's name: to HEAD without a body. In `archive`, objects can be listed only."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bucket, _, key = self.path.split("?")[0][1:].partition("/")
        if bucket != "archive":
            status, code, _ = ANSWERS[bucket]
            self.give(
                status,
                f"<Error><Code>{code}</Code><Message>words</Message><Region>eu-central-1</Region></Error>",
            )
        elif self.command == "HEAD":
            self.give(200, "x" * len(ARCHIVED))
        elif key:
            self.give(403, "<Error><Code>InvalidObjectState</Code><Message>words</Message></Error>")
        else:
            self.give(200, "<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")

    do_GET = do_HEAD = do_PUT = do_POST = answer

    def give(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amz-bucket-region", "eu-central-1")
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def reached(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "PATIENCE", Patience(0.3, 0.001, 0.01))
    with reached_at(endpoint, AWS_MAX_ATTEMPTS="1"):
        yield


SOURCES: list[Callable[[str], Source]] = [
    lambda bucket: ImagesSource([f"s3://{bucket}/folder/a.png"]),
    lambda bucket: ImagesSource([f"s3://{bucket}/folder/*.png"]),
    lambda bucket: WebDatasetSource([f"s3://{bucket}/folder/{{000..001}}.tar"]),
    lambda bucket: ParquetSource([f"s3://{bucket}/folder/rows.parquet"], image=["image"]),
]


@pytest.mark.parametrize("bucket", ANSWERS)
@pytest.mark.usefixtures("reached")
def test_sources_say_what_was_wrong(bucket: str) -> None:
    for make in SOURCES:
        with pytest.raises(SourceError, match=rf"s3://{bucket}/folder.*{ANSWERS[bucket][2]}"):
            list(make(bucket).list())


@pytest.mark.parametrize("bucket", ANSWERS)
@pytest.mark.usefixtures("reached")
def test_outputs_say_what_was_wrong(bucket: str) -> None:
    storage = Storage(f"s3://{bucket}/out", Patience(0.3, 0.001, 0.01))
    acts: list[Callable[[], object]] = [
        lambda: storage.publish("lock.json", b"{}"),
        lambda: storage.read("plan.parquet"),
        lambda: storage.replace("recipe.yaml", b"{}"),
    ]
    if bucket != "nowhere":
        acts += [lambda: storage.exists("identity.json"), lambda: storage.names("stats")]
    for act in acts:
        with pytest.raises(OutputError, match=rf"s3://{bucket}/out: cannot .*{ANSWERS[bucket][2]}"):
            act()


@pytest.mark.usefixtures("reached")
def test_an_archived_object_is_its_items_fault(tmp_path: Path) -> None:
    source = ImagesSource(["s3://archive/a.png"])
    ((_, raw),) = source.read(list(source.list()))
    assert isinstance(raw, Reject)
    assert raw.reason == "archived"
    assert "s3://archive/a.png" in raw.detail
    assert "restored" in raw.detail
    pq.write_table(pa.table({"image": ["s3://archive/a.png"]}), tmp_path / "rows.parquet")
    source = ParquetSource([str(tmp_path)], image=["image"], allow=["s3://archive"])
    ((_, raw),) = source.read(list(source.list()))
    assert isinstance(raw, Reject)
    assert raw.reason == "archived"
    with pytest.raises(SourceError, match=r"s3://archive/a\.tar: the object is archived"):
        list(WebDatasetSource(["s3://archive/a.tar"]).list())


def test_no_credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with reached_at(endpoint):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        words = r's3://denied/folder.*no credentials.*AWS_ACCESS_KEY_ID.*FSSPEC_S3=\'{"anon": true}\''
        for make in SOURCES:
            with pytest.raises(SourceError, match=words):
                list(make("denied").list())
        with pytest.raises(OutputError, match=r"s3://denied/out.*no credentials"):
            Storage("s3://denied/out").exists("a")


def test_the_advice_for_public_buckets_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting that the message names is one of fsspec's."""
    import fsspec.config

    conf: dict[str, dict[str, object]] = {}
    fsspec.config.set_conf_env(conf, {"FSSPEC_S3": '{"anon": true}'})
    monkeypatch.setattr(fsspec.config, "conf", conf)
    assert fsspec.config.apply_config(__import__("s3fs").S3FileSystem, {}) == {"anon": True}


def error(name: str, *bases: type[Exception], **attributes: object) -> Exception:
    made = type(name, bases or (Exception,), {})("words")
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


def test_other_stores_by_the_names_of_their_errors() -> None:
    """gcsfs and adlfs need not be installed; their drivers' classes have these names and attributes."""
    archived = error("HttpResponseError", status_code=409, error_code="BlobArchived")
    found = meaning(archived)
    assert found is not None
    assert found.archived
    assert not may_pass(archived)
    for one, words in {
        error("DefaultCredentialsError"): "gcloud auth application-default login",
        error("RefreshError"): "have expired",
        error("HttpError", code=403): "gcloud",
        error("ClientAuthenticationError", status_code=401): "az login",
        error(
            "HttpResponseError", status_code=403, error_code="AuthorizationPermissionMismatch"
        ): "access is denied",
        error("ResourceNotFoundError", status_code=404, error_code="ContainerNotFound"): "no such bucket",
        error("TokenRetrievalError"): "have expired",
        error("ProfileNotFound"): "AWS_PROFILE",
    }.items():
        found = meaning(one)
        assert found is not None, one
        assert words in found.words
    for one in (
        error("ResourceNotFoundError", status_code=404),
        OSError("no"),
        TimeoutError(),
        error("X", code=500),
    ):
        assert meaning(one) is None
