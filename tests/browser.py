"""A headless Chromium for the tests of pages, which sees files of this machine and no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.patience import seconds

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--proxy-server=127.0.0.1:9",  # the discard port: whatever still wants the network fails at once
)


@dataclass
class Visit:
    """A page that is open, and what the browser said of it.

    Attributes:
        page: the page, to drive.
        complaints: warnings and errors of the console, and exceptions that nothing caught.
        requests: addresses that it asked for, but for `data:`.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Starts the machine's Chromium, or skips the test where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser, file: Path, *, width: int, height: int, dark: bool = False, scale: int = 1
) -> Iterator[Visit]:
    """Opens a file in a window of its own.

    Args:
        browser: from `chromium`.
        file: a page on disk.
        width, height: of the window, in CSS pixels.
        dark: whether the reader prefers a dark scheme.
        scale: pixels of the screen to one CSS pixel; phones have 2 or 3.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(1000 * seconds(60))
    seen = Visit(context.new_page())
    seen.page.on(
        "console",
        lambda told: seen.complaints.append(told.text) if told.type in ("warning", "error") else None,
    )
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on(
        "request", lambda made: None if made.url.startswith("data:") else seen.requests.append(made.url)
    )
    try:
        seen.page.goto(file.resolve().as_uri(), wait_until="load")
        yield seen
    finally:
        context.close()
