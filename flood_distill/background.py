"""One step of a pipeline in a thread of its own, so that reading, computing and writing go on at once."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_POLL_S = 0.2  # how soon a producer notices that nobody wants more


@contextlib.contextmanager
def running(items: Iterable[Item], ahead: int) -> Iterator[Iterator[Item]]:
    """Runs an iterable in a thread, at most `ahead` items before whoever takes them.

    An error in the thread is raised where the items are taken. At the end of the block the thread has stopped and a
    generator behind it is closed.

    Args:
        items: what the thread iterates over.
        ahead: items that may wait, at least 1.
    """
    waiting: queue.Queue = queue.Queue(ahead)
    stopped = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, waiting, stopped), daemon=True)
    thread.start()
    taken = _taken(waiting)
    try:
        yield taken
    finally:
        taken.close()
        stopped.set()
        thread.join()


def _produce(items: Iterable[Item], waiting: queue.Queue, stopped: threading.Event) -> None:
    error = None
    try:
        for item in items:
            if not _put(waiting, (item, None), stopped):
                break
    except BaseException as caught:
        error = caught
    finally:
        if isinstance(items, Generator):
            items.close()
    _put(waiting, (None, error or StopIteration()), stopped)


def _put(waiting: queue.Queue, entry: tuple, stopped: threading.Event) -> bool:
    """Waits for room; returns whether the entry was put before the consumer left."""
    while not stopped.is_set():
        with contextlib.suppress(queue.Full):
            waiting.put(entry, timeout=_POLL_S)
            return True
    return False


def _taken(waiting: queue.Queue) -> Iterator[Item]:
    while True:
        item, end = waiting.get()
        if isinstance(end, StopIteration):
            return
        if end is not None:
            raise end
        yield item
