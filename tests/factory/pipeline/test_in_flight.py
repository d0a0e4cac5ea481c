"""Progress within shards, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from factory.pipeline.in_flight import Board, ItemCounter


def test_the_board_adds_up_shards_by_step_in_the_order_of_the_steps():
    board = Board()
    board.put(3, {"invert": 4})
    board.put(3, {"load": 10})
    board.put(5, {"load": 7, "select": 7})
    assert list(board.total().items()) == [("load", 17), ("select", 7), ("invert", 4)]


def test_a_shard_that_is_made_again_starts_over():
    board = Board()
    board.put(0, {"invert": 9})
    board.put(0, {"invert": 2})  # another worker took over
    assert board.total() == {"invert": 2}


def test_a_published_shard_is_not_in_flight_even_if_a_report_comes_late():
    board = Board()
    board.put(0, {"load": 4})
    board.put(1, {"load": 6})
    board.published(0)
    board.put(0, {"corrupt": 4})
    assert board.total() == {"load": 6}


def test_a_stage_outside_of_ray_reports_nothing(tmp_path: Path):
    counter = ItemCounter(str(tmp_path))
    with counter.shard(0):
        counter.add("load", 3)


def test_a_board_that_comes_late_takes_no_counts_of_shards_that_are_published():
    board = Board([0])
    board.put(0, {"load": 4})
    board.put(1, {"load": 6})
    assert board.total() == {"load": 6}


class Mailbox:
    """Stands for the handle of a board: keeps what is put."""

    def __init__(self) -> None:
        self.board = Board()
        self.put = self

    def remote(self, shard: int, counts: Mapping[str, int]) -> None:
        self.board.put(shard, counts)


def test_what_was_counted_before_there_was_a_board_is_reported_afterwards(monkeypatch: pytest.MonkeyPatch):
    mailbox, boards = Mailbox(), [None]
    monkeypatch.setattr("factory.pipeline.in_flight._find", lambda url: boards[0])
    monkeypatch.setattr("factory.pipeline.in_flight.SECONDS_BETWEEN_REPORTS", 0.0)
    counter = ItemCounter("memory://out")
    with counter.shard(0):
        counter.add("load", 3)
    boards[0] = mailbox
    with counter.shard(1):
        counter.add("load", 4)
        counter.add("load", 1)
    assert mailbox.board.total() == {"load": 8}


def test_a_second_shard_of_a_worker_is_counted_apart_from_the_first(monkeypatch: pytest.MonkeyPatch):
    mailbox = Mailbox()
    monkeypatch.setattr("factory.pipeline.in_flight._find", lambda url: mailbox)
    counter = ItemCounter("memory://out")
    with counter.shard(0):
        counter.add("load", 3)
    with counter.shard(1):
        counter.add("load", 4)
    mailbox.board.published(0)
    assert mailbox.board.total() == {"load": 4}
