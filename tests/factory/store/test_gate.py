"""What cells may reach: beside their own Parquet file, and what the recipe allows. Everything else is refused."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from actors.errors import Reject
from factory.store.addresses import Reach, within_reach
from factory.store.gate import Gate, allowed


def end_of(text: str, own: str, *allow: str) -> str:
    """`ok`, or the reason of the refusal."""
    try:
        Gate(allow).place(text, own)
    except Reject as why:
        assert len(why.detail) < 700
        asked = "source.cells.allow" in why.detail or "may not" in why.detail
        assert why.reason != "url_not_allowed" or asked
        return why.reason
    return "ok"


@pytest.fixture
def shelf(tmp_path: Path) -> str:
    """The URL of a Parquet file; beside it an image and links, above it a private file."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"image")
    (tmp_path / "private.png").write_bytes(b"private")
    (tmp_path / "data-other").mkdir()
    (folder / "link.png").symlink_to("../private.png")
    (folder / "up").symlink_to("..")
    (folder / "inner.png").symlink_to("a.png")
    return f"file://{folder}/rows.parquet"


def test_a_disk(shelf: str, tmp_path: Path) -> None:
    ends = {
        "a.png": "ok",
        "./sub/../a.png": "url_not_allowed",  # refused for its dots, though it stays inside
        "sub/a.png": "ok",
        "inner.png": "ok",
        f"{tmp_path}/data/a.png": "ok",
        f"file://{tmp_path}/data/a.png": "ok",
        f"local://{tmp_path}/data/a.png": "ok",
        f"FILE://{tmp_path}/data/a.png": "ok",
        "link.png": "url_not_allowed",
        "up/private.png": "url_not_allowed",
        "../private.png": "url_not_allowed",
        "%2e%2e/private.png": "url_not_allowed",
        "%252e%252e/private.png": "url_not_allowed",
        "\uff0e\uff0e/private.png": "url_not_allowed",
        f"{tmp_path}/private.png": "url_not_allowed",
        f"file://{tmp_path}/private.png": "url_not_allowed",
        f"file:///{tmp_path}/private.png": "url_not_allowed",
        f"{tmp_path}/data-other/a.png": "url_not_allowed",
        f"//{tmp_path}/private.png": "url_not_allowed",
        "/proc/self/environ": "url_not_allowed",
        "/etc/passwd": "url_not_allowed",
        "file://localhost/etc/passwd": "bad_url",
        "file://~/private.png": "bad_url",
        "sub\\..\\..\\private.png": "bad_url",
        "a\n.png": "bad_url",
        "a::b.png": "bad_url",
    }
    assert {text: end_of(text, shelf) for text in ends} == ends
    assert end_of(f"{tmp_path}/private.png", shelf, str(tmp_path)) == "ok"
    assert end_of("link.png", shelf, f"file://{tmp_path}") == "ok"
    assert end_of("/etc/passwd", shelf, str(tmp_path)) == "url_not_allowed"


def test_a_bucket() -> None:
    own = "s3://bucket/data/rows.parquet"
    ends = {
        "images/a.png": "ok",
        "s3://bucket/data/a.png": "ok",
        "s3a://bucket/data/a.png": "ok",
        "s3://bucket/data2/a.png": "url_not_allowed",
        "s3://bucket/a.png": "url_not_allowed",
        "s3://bucket-2/data/a.png": "url_not_allowed",
        "s3://other/data/a.png": "url_not_allowed",
        "s3://bucket/data/../a.png": "url_not_allowed",
        "gs://bucket/data/a.png": "url_not_allowed",
        "https://bucket/data/a.png": "url_not_allowed",
        "/etc/passwd": "url_not_allowed",
        "file:///etc/passwd": "url_not_allowed",
        "ftp://bucket/data/a.png": "bad_url",
        "memory://bucket/data/a.png": "bad_url",
    }
    assert {text: end_of(text, own) for text in ends} == ends
    assert end_of("s3://other/x/a.png", own, "s3://other") == "ok"
    assert end_of("/data/a.png", own, "/data") == "ok"
    assert end_of("s3://other/x/a.png", own, "s3://other/y") == "url_not_allowed"
    assert end_of("hf://datasets/o/n/a.png", own, "hf://datasets/o/n") == "ok"


def test_the_web() -> None:
    own = "https://host.example/data/rows.parquet?path=a/b"
    ends = {
        "images/a.png": "ok",
        "https://host.example/data/a.png?id=3": "ok",
        "https://HOST.example:443/data/a.png": "ok",
        "https://host.example./data/a.png": "ok",
        "http://host.example/data/a.png": "url_not_allowed",
        "https://host.example:8443/data/a.png": "url_not_allowed",
        "https://host.example/a.png": "url_not_allowed",
        "https://host.example/data/%2e%2e/a.png": "url_not_allowed",
        "https://host.example/data/..;/a.png": "url_not_allowed",
        "https://host.example/data/..%2fa.png": "url_not_allowed",
        "https://host.example.evil.org/data/a.png": "url_not_allowed",
        "https://host.example@evil.org/data/a.png": "url_not_allowed",
        "https://user:word@host.example/data/a.png": "url_not_allowed",
        "https://evil.org#@host.example/data/a.png": "url_not_allowed",
        "https://evil.org\\@host.example/data/a.png": "bad_url",
        "https://host.example\t/data/a.png": "bad_url",
        "https:///a.png": "bad_url",
        "https://[::1/a.png": "bad_url",
        "https://%65vil.org/a.png": "bad_url",
    }
    assert {text: end_of(text, own) for text in ends} == ends
    for text in ("https://a.org/x.png", "https://b.org:8443/y.png"):
        assert end_of(text, own, "https://") == "ok"
        assert end_of(text, "file:///data/rows.parquet", "https://") == "ok"
    assert end_of("http://a.org/x.png", own, "https://") == "url_not_allowed"
    assert end_of("https://a.org.evil.org/x.png", own, "https://a.org") == "url_not_allowed"


@pytest.mark.parametrize(
    "prefix", ["images", "https://u:p@host/", "https://host/?sig=1", "s3://b/../c", "s3://b/*"]
)
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(ValueError):
        allowed(prefix)


OUT_OF_REACH = [
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "169.254.169.254",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]
METADATA = [
    "169.254.169.254",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]


def test_addresses() -> None:
    assert not [one for one in OUT_OF_REACH if within_reach(one, Reach.PUBLIC)]
    public = ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "193.0.0.1"]
    assert all(within_reach(one, Reach.PUBLIC) for one in public)
    private = ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd12::1", "100.64.0.1"]
    assert all(within_reach(one, Reach.PRIVATE) for one in private)
    assert not [one for one in METADATA if within_reach(one, Reach.PRIVATE)]
    assert all(within_reach(one, Reach.ANY) for one in METADATA)
    assert all(ip_address(one.partition("%")[0]) for one in OUT_OF_REACH)


@pytest.mark.parametrize(
    ("url", "own", "allow", "reach"),
    [
        ("https://a.org/x", "file:///d/r.parquet", ["https://"], Reach.PUBLIC),
        ("https://a.org/x", "file:///d/r.parquet", ["https://a.org"], Reach.PRIVATE),
        ("https://a.org/d/x", "https://a.org/d/r.parquet", [], Reach.PUBLIC),
        ("http://10.0.0.5/d/x", "http://10.0.0.5/d/r.parquet", [], Reach.ANY),
        ("http://10.0.0.5/d/x", "http://10.0.0.6/d/r.parquet", ["http://"], Reach.PUBLIC),
        ("http://10.0.0.5:6379/x", "http://10.0.0.5/d/r.parquet", ["http://"], Reach.PUBLIC),
        ("http://a.org:6379/x", "http://b.org/d/r.parquet", ["http://", "http://a.org"], Reach.PUBLIC),
        ("http://127.0.0.1:80/x", "file:///d/r.parquet", ["http://127.0.0.1/x"], Reach.ANY),
        ("http://localhost/x", "file:///d/r.parquet", ["http://localhost/"], Reach.PRIVATE),
    ],
)
def test_reach(url: str, own: str, allow: list[str], reach: Reach) -> None:
    gate = Gate(allow)
    assert gate.reach(gate.place(url, own), own) is reach


def test_redirects_pass_the_same_gate() -> None:
    own, gate = "https://a.org/d/r.parquet", Gate()
    place = gate.place("x.png", own)
    assert gate.redirected(place, "y.png", own).url == "https://a.org/d/y.png"
    for location in (
        "/y.png",
        "../y.png",
        "https://b.org/d/y.png",
        "http://a.org/d/y.png",
        "file:///etc/passwd",
        "//b.org/d/y",
    ):
        with pytest.raises(Reject) as caught:
            gate.redirected(place, location, own)
        assert caught.value.reason == "url_not_allowed"
    anywhere = Gate(["https://", "http://"])
    with pytest.raises(Reject, match="another protocol"):
        anywhere.redirected(place, "http://b.org/y.png", own)
