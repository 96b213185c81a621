"""One object from the server to the disk: resumed where it was cut, checked, and whole or not at all."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import requests

from data_prep.bucket import objects
from data_prep.bucket.client import Client
from data_prep.bucket.manifest import Entry
from data_prep.bucket.objects import Hash, RemoteObject
from data_prep.patience import Passing, Refused

_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416
_MOST_SUSPICIONS = 3


class _Suspect(Exception):
    """The bytes on the server or in the part file are not those of the listing."""


class Transfer:
    """Fetches one object.

    The first bytes lie in a part file that is named after the checksum of the whole. So bytes of another version of
    the object are never its beginning, and without a checksum in the listing nothing is resumed. What does not agree
    with the listing is thrown away, the listing is asked again, and the new version, if there is one, is fetched from
    its start.

    Args:
        client: the server.
        bucket: name of the bucket.
        wanted: the object.
        output_dir: folder that the object's name is a path below.
        on_bytes: told how many bytes have come, negative when bytes are thrown away.
    """

    def __init__(
        self, client: Client, bucket: str, wanted: RemoteObject, output_dir: Path, on_bytes: Callable[[int], None]
    ):
        self._client = client
        self._bucket = bucket
        self._wanted = wanted
        self._output_dir = output_dir
        self._on_bytes = on_bytes
        self._position = usable_bytes(wanted, output_dir)  # how far `on_bytes` knows the transfer to be
        self._suspicions = 0

    def run(self) -> Entry:
        """Fetches the object and puts it in its place.

        Returns:
            The manifest's entry, of the object as it was on the server when it was fetched.

        Raises:
            Refused: if it cannot be had.
            Stopped: if the work is called off; a later transfer goes on from there.
            OSError: if the disk fails.
        """
        self._wanted.path(self._output_dir).parent.mkdir(parents=True, exist_ok=True)
        digest = self._client.insist(self._attempt, lambda: usable_bytes(self._wanted, self._output_dir))
        path = self._wanted.path(self._output_dir)
        self._part.replace(path)
        return Entry.of_file(path, self._wanted, digest)

    @property
    def _part(self) -> Path:
        return self._wanted.part_path(self._output_dir)

    def _attempt(self) -> str:
        try:
            return self._complete()
        except _Suspect as error:
            self._move_to(0)
            self._part.unlink(missing_ok=True)
            self._suspicions += 1
            if self._suspicions == _MOST_SUSPICIONS:
                raise Refused(f"{error} ({_MOST_SUSPICIONS} times)") from error
            self._wanted = objects.look_up(self._client, self._bucket, self._wanted.name)
            raise Passing(str(error)) from error

    def _complete(self) -> str:
        """Makes the part file whole and returns its checksum."""
        wanted, hash_ = self._wanted, self._wanted.new_hash()
        start = usable_bytes(wanted, self._output_dir)
        self._move_to(start)
        if start:
            objects.hash_file(self._part, hash_, self._client)
        with self._part.open("ab" if start else "wb") as file:
            if start < wanted.size:
                hash_ = self._receive(file, hash_, start)
            file.flush()
            os.fsync(file.fileno())
        digest = hash_.digest().hex()
        if wanted.identity and digest != wanted.identity:
            raise _Suspect("its checksum is not the listing's")
        return digest

    def _receive(self, file: BinaryIO, hash_: Hash, start: int) -> Hash:
        """Appends what is still to come; returns the hash of all bytes of the file."""
        with self._open(start) as response:
            if response.status_code != _PARTIAL_CONTENT and start:  # the server knows no ranges and sends everything
                start, hash_ = 0, self._wanted.new_hash()
                file.truncate(0)
                self._move_to(0)
            _check_headers(response, self._wanted, start)
            for chunk in self._client.chunks(response):
                if self._position + len(chunk) > self._wanted.size:
                    raise _Suspect("more bytes than the listing says")
                file.write(chunk)
                hash_.update(chunk)
                self._move_to(self._position + len(chunk))
        if self._position < self._wanted.size:
            raise Passing("the server closed the connection early")
        return hash_

    @contextlib.contextmanager
    def _open(self, start: int) -> Iterator[requests.Response]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self._client.get(objects.media_path(self._bucket, self._wanted.name), headers=headers) as response:
                yield response
        except Refused as error:
            if error.status == _RANGE_NOT_SATISFIABLE:
                raise _Suspect("shorter than the listing says") from error
            raise

    def _move_to(self, position: int) -> None:
        self._on_bytes(position - self._position)
        self._position = position


def usable_bytes(wanted: RemoteObject, output_dir: Path) -> int:
    """Returns how many bytes of an object an earlier transfer has left."""
    size = _size(wanted.part_path(output_dir)) if wanted.identity else 0
    return size if size <= wanted.size else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _check_headers(response: requests.Response, wanted: RemoteObject, start: int) -> None:
    """Raises `_Suspect` where the answer's headers tell that its bytes are not those wanted."""
    size = str(wanted.size)
    if start and response.headers.get("Content-Range", "") != f"bytes {start}-{wanted.size - 1}/{size}":
        raise _Suspect("the server sends another range than it was asked for")
    plain = not start and "Content-Encoding" not in response.headers
    if plain and response.headers.get("Content-Length", size) != size:
        raise _Suspect("its size is not the listing's")
