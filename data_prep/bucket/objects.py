"""What a bucket holds: the objects of its JSON listing, their checksums, and where they lie on disk."""

import base64
import binascii
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote

import google_crc32c

from data_prep.bucket.client import Client
from data_prep.patience import Refused, Stopped

_PAGE_SIZE = 1000  # the most that the API gives, https://cloud.google.com/storage/docs/json_api/v1/objects/list
_FIELDS = "nextPageToken,items(name,size,md5Hash,crc32c,generation)"
_READ_BYTES = 1 << 20
_IDENTITY = r"[0-9a-f]{8}|[0-9a-f]{32}"
_PART = re.compile(rf"(.+?)(?:\.(?:{_IDENTITY}))?\.part")


class Hash(Protocol):
    """What hashlib's and google_crc32c's objects have in common."""

    def update(self, chunk: bytes) -> None: ...

    def digest(self) -> bytes: ...


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteObject:
    """One object as the listing describes it.

    Attributes:
        name: with slashes; also its path below the output folder.
        size: in bytes.
        md5: hexadecimal; empty if the listing has none (objects composed of parts have only a CRC32C).
        crc32c: hexadecimal, big-endian; empty if the listing has none.
        generation: the server's number of this version of the object; may be empty.
    """

    name: str
    size: int
    md5: str
    crc32c: str
    generation: str

    @property
    def identity(self) -> str:
        """The checksum that tells this content from any other; empty if there is none."""
        return self.md5 or self.crc32c

    def new_hash(self) -> Hash:
        """Returns what computes `identity`; MD5 if there is none."""
        return google_crc32c.Checksum() if self.crc32c and not self.md5 else hashlib.md5(usedforsecurity=False)

    def path(self, output_dir: Path) -> Path:
        """Returns where the object lies on disk."""
        return output_dir / self.name

    def part_path(self, output_dir: Path) -> Path:
        """Returns where its first bytes lie until all are there; another content has another path."""
        path = self.path(output_dir)
        return path.with_name(f"{path.name}.{self.identity}.part" if self.identity else f"{path.name}.part")


def target_of_part(part: Path) -> Path | None:
    """Returns the path that a part file becomes, or None for another file."""
    match = _PART.fullmatch(part.name)
    return part.with_name(match[1]) if match else None


def media_path(bucket: str, name: str) -> str:
    """Returns an object's path on the server."""
    return f"{bucket}/{quote(name)}"


def list_objects(client: Client, bucket: str, prefix: str) -> Iterator[RemoteObject]:
    """Gives all objects whose name starts with `prefix`, page by page; folders' placeholders are passed over.

    Raises:
        Refused: if the server does not list them or its listing is not of the API's form.
    """
    params = {"prefix": prefix, "maxResults": str(_PAGE_SIZE), "fields": _FIELDS}
    seen: set[str] = set()
    while True:
        page = client.get_json(f"storage/v1/b/{quote(bucket)}/o", params)
        for item in page.get("items", []):
            found = _parse(item)
            if not found.name.endswith("/"):
                yield found
        token = page.get("nextPageToken")
        if not token:
            return
        if token in seen:
            raise Refused("the listing's pages go in a circle")
        seen.add(token)
        params["pageToken"] = token


def look_up(client: Client, bucket: str, name: str) -> RemoteObject:
    """Returns what the listing says of one object now.

    Raises:
        Refused: if it is not listed any more.
    """
    for found in list_objects(client, bucket, name):
        if found.name == name:
            return found
    raise Refused("no longer on the server")


def hash_file(path: Path, hash_: Hash, client: Client, on_bytes: Callable[[int], None] = lambda count: None) -> str:
    """Returns the hexadecimal checksum of a file.

    Args:
        path: the file.
        hash_: as `RemoteObject.new_hash` gives it; goes on being of use.
        client: the client whose `stop` calls this off.
        on_bytes: told how many bytes were read.

    Raises:
        Stopped: when the work is called off.
    """
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            if client.stop.is_set():
                raise Stopped
            hash_.update(chunk)
            on_bytes(len(chunk))
    return hash_.digest().hex()


def _parse(item: dict) -> RemoteObject:
    try:
        name = item["name"]
        _check_name(name)
        return RemoteObject(
            name,
            int(item["size"]),
            base64.b64decode(item.get("md5Hash", "")).hex(),
            base64.b64decode(item.get("crc32c", "")).hex(),
            str(item.get("generation", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise Refused(f"an object in the listing is not of the API's form: {error!r} in {item}") from None


def _check_name(name: str) -> None:
    """Refuses what would be written outside the output folder."""
    parts = name.split("/")
    if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or not name.isprintable():
        raise ValueError("name leads out of the folder")
