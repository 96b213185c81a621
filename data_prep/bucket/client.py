"""HTTP with patience: requests that are tried again with back-off and jitter, and errors sorted by what they mean."""

import contextlib
import dataclasses
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import requests
import urllib3
from absl import logging

from flood_distill import __version__

T = TypeVar("T")

# What passes by itself: time-outs, too many requests, the server's own faults (https://cloud.google.com/storage/docs/
# retry-strategy lists 408, 429 and 5xx).
_PASSING_STATUSES = frozenset({408, 429, *range(500, 600)})
_CHUNK_BYTES = 1 << 16  # what a broken connection loses at most
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


class Client:
    """One server, for many threads.

    Args:
        base_url: such as ``https://storage.googleapis.com``.
        retries: see `Retries`.
        timeout_s: to connect, and between two pieces of an answer.
    """

    def __init__(
        self, base_url: str, retries: Retries = PATIENT, timeout_s: tuple[float, float] = (20.0, 60.0)
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.stop = threading.Event()  # set to call all work off
        self._retries = retries
        self._timeout_s = timeout_s
        self._local = threading.local()  # a session is not safe to share
        self._answered = False

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
                most = self._retries.attempts if self._answered else min(self._retries.attempts, _FIRST_ATTEMPTS)
                if failures >= most:
                    raise Refused(f"{error} ({failures} attempts)", exhausted=True) from error
                wait_s = self._retries.wait_s(failures, error.retry_after_s)
                logging.info("%s: attempt %d of %d in %.1f s", error, failures + 1, most, wait_s)
                if self.stop.wait(wait_s):
                    raise Stopped from error

    def get_json(self, path: str, params: Mapping[str, str]) -> dict:
        """Returns a JSON answer; insists.

        Raises:
            Refused: if the server does not give it or answers something else.
        """

        def attempt() -> dict:
            with self.get(path, params=params) as response:
                body = b"".join(self.chunks(response))
            return json.loads(body)

        try:
            answer = self.insist(attempt)
        except ValueError:
            raise Refused("the answer is no JSON") from None
        if not isinstance(answer, dict):
            raise Refused("the answer is no JSON object")
        return answer

    @contextlib.contextmanager
    def get(
        self, path: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Gives the answer to one request, its body not yet read.

        Args:
            path: after the base URL, quoted.
            params: of the query.
            headers: beside the usual ones.

        Raises:
            Passing: if the server is out of reach, broken or busy.
            Refused: if it answers with another error.
        """
        try:
            response = self._session().get(
                f"{self.base_url}/{path}", params=params, headers=headers, stream=True, timeout=self._timeout_s
            )
        except requests.exceptions.SSLError as error:  # a connection error too, but certificates do not mend themselves
            raise Refused(_reason(error)) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Passing(_reason(error)) from error
        except requests.RequestException as error:
            raise Refused(str(error)) from error
        self._answered = True
        with response:
            _raise_for_status(response)
            yield response

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Gives the body piece by piece.

        Raises:
            Passing: if the connection breaks.
            Stopped: when the work is called off.
        """
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                if self.stop.is_set():
                    raise Stopped
                yield chunk
        except requests.RequestException as error:
            raise Passing(_reason(error)) from error

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.headers["User-Agent"] = f"flood_distill/{__version__}"
            session.headers["Accept-Encoding"] = "identity"  # the bytes that the checksums are of
            self._local.session = session
        return self._local.session


def _raise_for_status(response: requests.Response) -> None:
    status = response.status_code
    if status < 400:
        return
    message = f"{status} {response.reason}"
    if status in _PASSING_STATUSES:
        raise Passing(message, _retry_after_s(response))
    raise Refused(message, status)


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        return urllib3.Retry().get_retry_after(response)
    except urllib3.exceptions.InvalidHeader:
        return None


def _reason(error: BaseException) -> str:
    """Returns the innermost cause of an error: requests and urllib3 wrap it several times."""
    while isinstance(cause := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = cause
    message = str(cause if isinstance(cause, str) and error.args[0] is cause else error) or type(error).__name__
    return message.rpartition("): ")[2]  # without the connection's address
