"""A step in a thread of its own: order, room, errors and the end."""

import threading

import pytest

from flood_distill import background


def test_items_come_in_order_and_no_more_are_made_than_there_is_room_for():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with background.running(items(), ahead=3) as taken:
        assert next(taken) == 0
        assert list(taken) == list(range(1, 100))
    with background.running(items(), ahead=3) as taken:
        made.clear()
        first = next(taken)
        assert first == 0
    assert len(made) <= 1 + 3 + 2  # taken, waiting, one that found no room, one that was begun


def test_an_error_is_raised_where_the_items_are_taken():
    def items():
        yield 1
        raise ValueError("in the thread")

    with background.running(items(), ahead=5) as taken:
        assert next(taken) == 1
        with pytest.raises(ValueError, match="in the thread"):
            next(taken)


def test_who_leaves_early_closes_the_generator_and_ends_the_thread():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    with background.running(items(), ahead=2) as taken:
        next(taken)
    assert closed.is_set()
    assert threading.active_count() == before


def test_steps_behind_each_other_end_together():
    with background.running(iter(range(10**9)), 2) as first:
        doubled = (2 * item for item in first)
        with background.running(doubled, 2) as second:
            assert [next(second) for _ in range(3)] == [0, 2, 4]
