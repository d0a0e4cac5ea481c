"""No secret of a URL passes: neither alone nor within the words of a library."""

from __future__ import annotations

import pytest

from actors.errors import OutputError, Reject, SourceError
from actors.redaction import redact, scrub

WITH_SECRETS = {
    "https://h/a.tar?X-Amz-Algorithm=SECRET&X-Amz-Credential=SECRET%2F1&X-Amz-Date=SECRET&X-Amz-Expires=9&"
    "X-Amz-SignedHeaders=host&X-Amz-Signature=SECRET": "https://h/a.tar",
    "https://h/a.tar?x-amz-security-token=SECRET&id=3": "https://h/a.tar?id=3",
    "https://b.blob.core.windows.net/c/a.tar?sv=1&se=2026&sr=c&sp=r&sig=SECRET%3D": "https://b.blob.core.windows.net/c/a.tar",
    "https://storage.googleapis.com/b/a?X-Goog-Signature=SECRET": "https://storage.googleapis.com/b/a",
    "https://h/a?AWSAccessKeyId=SECRET&Expires=1&Signature=SECRET": "https://h/a",
    "https://cdn/a?Policy=SECRET&Key-Pair-Id=SECRET&Signature=SECRET": "https://cdn/a",
    "https://h/a.png?token=SECRET": "https://h/a.png",
    "https://h/a.png?page=2;access_token=SECRET": "https://h/a.png?page=2",
    "https://h/a.png?anything=SECRET": "https://h/a.png",
    "https://h/a.png?SECRET": "https://h/a.png",
    "https://h/a.png?%73ig=SECRET": "https://h/a.png",
    "https://h/a.png#access_token=SECRET": "https://h/a.png",
    "https://h/a.png?id=7#SECRET": "https://h/a.png?id=7",
    "https://user:SECRET@h:8080/a.png": "https://h:8080/a.png",
    "https://SECRET@h/a.png": "https://h/a.png",
    "HTTPS://SECRET@h/a.png?Sig=SECRET": "HTTPS://h/a.png",
    "https://user:SEC@RET@h/a.png": "https://h/a.png",
    "https://user:SECRET@h?sig=SECRET": "https://h",
    "https://h/{000..068}.tar?sig=SECRET": "https://h/{000..068}.tar",
    "sftp://user:SECRET@h/a": "sftp://h/a",
    "s3://key:SECRET@bucket/a": "s3://bucket/a",
    "s3://bucket/a?X-Amz-Signature=SECRET": "s3://bucket/a",
    "abfs://c@account.dfs.core.windows.net/a?sig=SECRET": "abfs://c@account.dfs.core.windows.net/a",
    "hf://SECRET@datasets/o/n": "hf://datasets/o/n",
}
WITHOUT = [
    "/data/what?.png",
    "/data/a?token=b.png",
    "images/a@b.png",
    "tinytown:3",
    "s3://bucket/what? is this#1@2.png",
    "abfs://container@account.dfs.core.windows.net/a.png",
    "hf://datasets/o/n@main/a.parquet",
    "https://h:8080/a%20b.png?id=3&page=4",
    "file:///data/a?b.png",
    "",
]


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_secrets_go_and_the_place_stays(url: str) -> None:
    assert redact(url) == WITH_SECRETS[url]
    assert redact(redact(url)) == redact(url)
    for words in (
        "{}",
        "cannot read {}: 403",
        "URL('{}')",
        "<{}>",
        "({}); try again",
        '"{}", "x"',
        "a {}\nb",
    ):
        assert "SECRET" not in scrub(words.format(url))


@pytest.mark.parametrize("url", WITHOUT)
def test_what_is_no_secret_stays(url: str) -> None:
    assert redact(url) == url
    assert scrub(f"cannot read {url} today") == f"cannot read {url} today" or "token=" in url


def test_words_of_libraries() -> None:
    for words in (
        "Max retries exceeded with url: /a.tar?X-Amz-Signature=SECRET (Caused by ...)",
        "401, message='Unauthorized', url='https://h/a.tar?sig=SECRET'",
        "GET /a?page=1&token=SECRET HTTP/1.1",
        "Invalid user token: hf_SECRETabcdefghijklmnop",
    ):
        assert "SECRET" not in scrub(words)
        assert "SECRET" not in str(SourceError(words))
        assert "SECRET" not in str(OutputError(words).args)
        assert "SECRET" not in Reject("bad_url", words).detail


def test_a_detail_is_short() -> None:
    assert len(Reject("bad_cell", "x" * 1_000_000).detail) < 2_100
