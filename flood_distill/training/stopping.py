"""Signals that ask a process to stop: it answers even while TensorFlow computes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from tqdm import tqdm

from flood_distill import exit_codes

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def on_signals(answer: Callable[[], None]) -> Iterator[None]:
    """Calls `answer` in a thread of its own when SIGTERM or Ctrl-C arrives.

    Python's own handlers run between two instructions of the main thread, so not before a call into TensorFlow returns:
    after a hundred steps, say. Ignored signals stay ignored. Once one has come, all are ignored at the end, because the
    process is on its way out. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    inside, outside = os.pipe()
    os.set_blocking(outside, False)
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: None) for number in handled}
    wakeup_before = signal.set_wakeup_fd(outside, warn_on_full_buffer=False)
    came = threading.Event()
    watch = threading.Thread(target=_watch, args=(inside, answer, came), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_IGN if came.is_set() else handler)
        os.close(outside)
        watch.join()
        os.close(inside)


def leave_at_once() -> NoReturn:
    """Ends the process where nothing is lost by it: before the first step."""
    _leave("stopped before the first step; the same command starts again", exit_codes.STOPPED)


def _watch(descriptor: int, answer: Callable[[], None], came: threading.Event) -> None:
    """Reads one byte a signal; the end of the pipe is the end of the watch."""
    interrupted = False
    while number := os.read(descriptor, 1):
        if number[0] == signal.SIGINT and interrupted:
            _leave("stopped at once", exit_codes.of_process(-signal.SIGINT))
        interrupted |= number[0] == signal.SIGINT
        if number[0] in SIGNALS:
            came.set()
            answer()


def _leave(message: str, code: int) -> NoReturn:
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)
