"""A small server that speaks the storage API's listing and media download over real sockets, with faults on demand."""

import base64
import collections
import contextlib
import dataclasses
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c

BUCKET = "sen1floods11"


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: answered instead of the object, if not 0.
        headers: sent with the status.
        cut_after: bytes of the body after which the connection breaks.
        stall_s: seconds that it hangs before it breaks.
        flip: whether the first byte sent is another.
        ignore_range: whether everything is sent, whatever was asked for.
        before: called before the request is answered.
    """

    status: int = 0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    cut_after: int | None = None
    stall_s: float = 0.0
    flip: bool = False
    ignore_range: bool = False
    before: Callable[[], None] = lambda: None


@dataclasses.dataclass
class Stored:
    """One object."""

    data: bytes
    generation: int
    hashes: tuple[str, ...] = ("md5Hash", "crc32c")

    def item(self, name: str) -> dict[str, str]:
        """Returns the object as the listing has it."""
        hashes = {
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),
            "crc32c": base64.b64encode(google_crc32c.Checksum(self.data).digest()).decode(),
        }
        known = {key: hashes[key] for key in self.hashes}
        return {"name": name, "size": str(len(self.data)), "generation": str(self.generation), **known}


class FakeBucket:
    """The server's state; change it while it runs.

    Attributes:
        url: its address.
        objects: by name.
        faults: still to happen, by name of the object or ``list``.
        requests: (name or ``list``, Range header or empty) of all that came, in order.
        page_size: objects in a page of the listing.
        pause_s: seconds between two pieces of 10 kB of a body.
    """

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, Stored] = {}
        self.faults: dict[str, list[Fault]] = collections.defaultdict(list)
        self.requests: list[tuple[str, str]] = []
        self.page_size = 3
        self.pause_s = 0.0
        self._lock = threading.Lock()
        self._generation = 1000

    def put(self, name: str, data: bytes, **fields: tuple[str, ...]) -> None:
        """Stores an object, under a new generation."""
        self._generation += 1
        self.objects[name] = Stored(data, self._generation, **fields)

    def media(self) -> list[tuple[str, str]]:
        """Returns the requests that were not for the listing."""
        return [request for request in self.requests if request[0] != "list"]

    def note(self, name: str, range_header: str) -> Fault:
        """Notes a request and returns what is to go wrong with it."""
        with self._lock:
            self.requests.append((name, range_header))
            fault = self.faults[name].pop(0) if self.faults[name] else Fault()
        fault.before()
        return fault

    def page(self, query: dict[str, list[str]]) -> dict:
        """Returns one page of the listing."""
        names = sorted(name for name in self.objects if name.startswith(query["prefix"][0]))
        start = int(query.get("pageToken", ["0"])[0])
        size = min(self.page_size, int(query["maxResults"][0]))
        page: dict = {"items": [self.objects[name].item(name) for name in names[start : start + size]]}
        if start + size < len(names):
            page["nextPageToken"] = str(start + size)
        return page if page["items"] else {}  # the API leaves the key out


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bucket: FakeBucket

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        name = urllib.parse.unquote(url.path)
        if name == f"/storage/v1/b/{BUCKET}/o":
            fault = self.bucket.note("list", "")
            page = self.bucket.page(urllib.parse.parse_qs(url.query))
            body = page if isinstance(page, bytes) else json.dumps(page).encode()
            self._answer(fault, 200, body, {"Content-Type": "application/json"})
        else:
            self._media(name.removeprefix(f"/{BUCKET}/"))

    def _media(self, name: str) -> None:
        asked = self.headers.get("Range", "")
        fault = self.bucket.note(name, asked)
        stored = self.bucket.objects.get(name)
        if stored is None:
            self._answer(fault, 404, b"<Error/>", {})
            return
        headers = {"x-goog-generation": str(stored.generation)}
        match = re.fullmatch(r"bytes=(\d+)-", "" if fault.ignore_range else asked)
        start, size = int(match[1]) if match else 0, len(stored.data)
        if start and start >= size:
            self._answer(fault, 416, b"<Error/>", {})
        elif match:
            self._answer(
                fault, 206, stored.data[start:], headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
            )
        else:
            self._answer(fault, 200, stored.data, headers)

    def _answer(self, fault: Fault, status: int, body: bytes, headers: dict[str, str]) -> None:
        if fault.status:
            status, body, headers = fault.status, b"no", fault.headers
        if fault.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        sent = body if fault.cut_after is None else body[: fault.cut_after]
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(sent), 10_000):
                self.wfile.write(sent[start : start + 10_000])
                threading.Event().wait(self.bucket.pause_s)
            threading.Event().wait(fault.stall_s)
        self.close_connection |= fault.cut_after is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that leave early are part of the tests."""


@contextlib.contextmanager
def serve() -> Iterator[FakeBucket]:
    """Runs an empty bucket."""
    bucket = FakeBucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
