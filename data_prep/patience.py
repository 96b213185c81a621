"""Patience: requests that are tried again with back-off and jitter, and errors sorted by what they mean."""

import dataclasses
import random
import threading
from collections.abc import Callable
from typing import TypeVar

from absl import logging

T = TypeVar("T")

# What passes by itself: time-outs, too many requests, the server's own faults (https://cloud.google.com/storage/docs/
# retry-strategy lists 408, 429 and 5xx).
PASSING_STATUSES = frozenset({408, 429, *range(500, 600)})
_FIRST_ATTEMPTS = 3  # for a server that has never answered: nobody waits minutes to hear of a wrong address


class Passing(Exception):
    """A failure that may pass.

    Attributes:
        retry_after_s: how long the server asks to wait, in seconds, or None.
    """

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """A failure that stays.

    Attributes:
        status: the HTTP status, or None.
        exhausted: whether it could have passed, but all attempts are used up.
    """

    def __init__(self, message: str, status: int | None = None, exhausted: bool = False):
        super().__init__(message)
        self.status = status
        self.exhausted = exhausted


class Stopped(Exception):
    """The work was called off."""


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often and how long to wait before a request is made again.

    Attributes:
        attempts: in all, without progress between them.
        first_wait_s: before the second attempt; doubles with each further one.
        longest_wait_s: where the doubling ends.
        longest_retry_after_s: where obeying the server's ``Retry-After`` ends.
    """

    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 64.0
    longest_retry_after_s: float = 600.0

    def wait_s(self, failures: int, retry_after_s: float | None) -> float:
        """Returns the seconds to wait after so many failures: half of it fixed, half random."""
        back_off = min(self.longest_wait_s, self.first_wait_s * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
        return max(back_off, min(retry_after_s or 0.0, self.longest_retry_after_s))


PATIENT = Retries()  # waits one to two minutes in all


class Patience:
    """Tries again, for many threads.

    Args:
        retries: see `Retries`.

    Attributes:
        stop: set to call all work off.
        answered: whether the server has ever answered; until then patience is short.
    """

    def __init__(self, retries: Retries = PATIENT):
        self.stop = threading.Event()
        self.answered = False
        self._retries = retries

    def insist(self, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Calls `attempt` until it works.

        Args:
            attempt: raises `Passing` to be called again.
            progress: how far the work is; getting further than ever before gives all attempts back.

        Raises:
            Refused: when the attempts are used up, or by `attempt`.
            Stopped: when the work is called off.
        """
        failures, reached = 0, progress()
        while True:
            try:
                return attempt()
            except Passing as error:
                failures = 1 if progress() > reached else failures + 1
                reached = max(reached, progress())
                most = self._retries.attempts if self.answered else min(self._retries.attempts, _FIRST_ATTEMPTS)
                if failures >= most:
                    raise Refused(f"{error} ({failures} attempts)", exhausted=True) from error
                wait_s = self._retries.wait_s(failures, error.retry_after_s)
                logging.info("%s: attempt %d of %d in %.1f s", error, failures + 1, most, wait_s)
                if self.stop.wait(wait_s):
                    raise Stopped from error


def reason(error: BaseException) -> str:
    """Returns the innermost cause of an error: requests and urllib3 wrap it several times."""
    while isinstance(cause := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = cause
    message = str(cause if isinstance(cause, str) and error.args[0] is cause else error) or type(error).__name__
    return message.rpartition("): ")[2]  # without the connection's address
