"""Who works on what in a folder that several machines share: a file that one of them makes and keeps fresh.

Claim number n of a name is the file ``NAME.claim.n``, made with O_EXCL, which is atomic on local disks and on NFS. A
claim is given up when its file goes. One that its owner has not touched for `STALE_S`, or whose owner is known to be
dead, is overtaken by making number n + 1, which again only one can. Ages are read off the file system's own clock.
"""

import contextlib
import json
import os
import socket
import time
import uuid
from pathlib import Path

HEARTBEAT_S = 20.0
STALE_S = 180.0


class Claim:
    """A name that this process holds.

    Args:
        path: its file, just made.
    """

    def __init__(self, path: Path):
        self._path = path
        self._next_beat = time.monotonic() + HEARTBEAT_S

    def beat(self) -> bool:
        """Keeps the claim fresh, touching the file every `HEARTBEAT_S`; returns whether we still hold it.

        A process that was suspended for long may have been overtaken; it must stop what it does.
        """
        if time.monotonic() < self._next_beat:
            return True
        self._next_beat = time.monotonic() + HEARTBEAT_S
        try:
            os.utime(self._path)
        except FileNotFoundError:
            return False
        return True

    def release(self) -> None:
        """Gives the name up."""
        self._path.unlink(missing_ok=True)


def take(folder: Path, name: str) -> Claim | None:
    """Claims a name; returns None while another process holds it.

    Whether the work is done is to be looked up after claiming: the one who did it may have given up its claim just now.
    """
    held = _latest(folder, name)
    if held and not _stale(held):
        return None
    number = _number(held) + 1 if held else 1
    path = folder / f"{name}.claim.{number}"
    try:
        with open(path, "x") as file:
            json.dump({"place": _place(), "host": socket.gethostname(), "pid": os.getpid()}, file)
    except FileExistsError:
        return None
    if held:
        held.unlink(missing_ok=True)
    return Claim(path)


def holder(folder: Path, name: str) -> str:
    """Returns who holds a name, in words; empty if nobody does."""
    held = _latest(folder, name)
    if not held or _stale(held):
        return ""
    owner = _read(held)
    return f"process {owner.get('pid', '?')} on {owner.get('host', 'another machine')}"


def _latest(folder: Path, name: str) -> Path | None:
    return max(folder.glob(f"{name}.claim.*"), key=_number, default=None)


def _number(path: Path) -> int:
    return int(path.suffix[1:])


def _stale(path: Path) -> bool:
    owner = _read(path)
    if owner.get("place") == _place() and not _alive(owner["pid"]):
        return True
    try:
        return _now(path.parent) - path.stat().st_mtime > STALE_S
    except FileNotFoundError:  # given up this moment
        return True


def _read(path: Path) -> dict:
    """Returns what a claim says; nothing in the moment before it is written."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _now(folder: Path) -> float:
    """The time of the machine that keeps the files: clocks of different machines differ."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _place() -> str:
    """Where process numbers mean the same: host, boot and, in containers, their own numbering."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
