"""Maps a function over items in worker processes: results in order, bounded look-ahead, no worker outlives its parent.

Imports no TensorFlow, so that a worker starts within a second and holds little memory.
"""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from flood_distill.errors import UserError

_ITEMS_WORTH_A_WORKER = 16  # a worker starts in the time of about ten tiles
_LOOK_AHEAD = 2  # results per worker that wait or are under way, so that no worker waits for the reader

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Processes that apply functions to items; started when first used, ended by `close`.

    Attributes:
        num_workers: the number of processes; 0 means that the calling process does the work itself.
    """

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self._executor: futures.ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yields ``function(item)`` in the order of the items.

        At most `_LOOK_AHEAD` results a worker are kept, however slowly they are taken.

        Args:
            function: can be pickled, if there are workers.
            items: the same.

        Raises:
            UserError: if a worker process dies.
            Exception: whatever `function` raises, at its item's turn.
        """
        if not self.num_workers:
            yield from map(function, items)
            return
        pending: collections.deque[futures.Future] = collections.deque()
        try:
            for item in items:
                pending.append(self._submit(function, item))
                if len(pending) > _LOOK_AHEAD * self.num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {self.num_workers} worker processes was killed, perhaps for lack of memory; "
                "fewer need less: --num_workers=1, or 0 for none"
            ) from error
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Ends the processes, after the items that are under way."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _submit(self, function: Callable, item: object) -> futures.Future:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
            self._executor = futures.ProcessPoolExecutor(self.num_workers, context, _prepare_worker)
        with _without_main_module():
            return self._executor.submit(function, item)


def num_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worthwhile_workers(num_items: int) -> int:
    """Returns how many workers to start for a number of tiles: one a core, none where starting them takes longer."""
    most = min(num_cores(), num_items // _ITEMS_WORTH_A_WORKER)
    return most if most > 1 else 0


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Hides ``__main__``: spawned processes import it, which would load TensorFlow in each of them."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _prepare_worker() -> None:
    """Ends this process with its parent, however that ends; leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
