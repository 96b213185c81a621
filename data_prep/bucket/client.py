"""HTTP with patience."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping

import requests
import urllib3

from data_prep.patience import PASSING_STATUSES, PATIENT, Passing, Patience, Refused, Retries, Stopped, reason
from flood_distill import __version__

_CHUNK_BYTES = 1 << 16  # what a broken connection loses at most


class Client(Patience):
    """One server, for many threads.

    Args:
        base_url: such as ``https://storage.googleapis.com``.
        retries: see `Retries`.
        timeout_s: to connect, and between two pieces of an answer.
    """

    def __init__(
        self, base_url: str, retries: Retries = PATIENT, timeout_s: tuple[float, float] = (20.0, 60.0)
    ) -> None:
        super().__init__(retries)
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._local = threading.local()  # a session is not safe to share

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
            raise Refused(reason(error)) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Passing(reason(error)) from error
        except requests.RequestException as error:
            raise Refused(str(error)) from error
        self.answered = True
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
            raise Passing(reason(error)) from error

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
    if status in PASSING_STATUSES:
        raise Passing(message, _retry_after_s(response))
    raise Refused(message, status)


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        return urllib3.Retry().get_retry_after(response)
    except urllib3.exceptions.InvalidHeader:
        return None
