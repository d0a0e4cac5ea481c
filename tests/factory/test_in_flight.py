"""Progress within shards, without Ray."""

from __future__ import annotations

from pathlib import Path

from factory.in_flight import Board, ItemCounter


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
