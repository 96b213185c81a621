"""The folder of a sweep, which all its processes see: names, locks and the settings that must not change."""

import contextlib
import fcntl
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from flood_distill import files
from flood_distill.errors import UserError

Point = dict[str, object]  # gin binding -> value: one point of the grid

TABLE_MD = "table.md"
TABLE_CSV = "table.csv"
HEATMAP_PNG = "heatmap.png"
BEST_GIN = "best.gin"
JOURNAL = "journal.log"
_SWEEP_JSON = "sweep.json"
_NO_FILE_NAME = re.compile(r"[^\w.+=,-]+")


class SweepFolder:
    """Paths and locks of a sweep.

    Locks are held by open files (flock), so the system releases them when a process ends, however it ends.

    Args:
        path: the folder; made if it is not there.
    """

    def __init__(self, path: Path):
        self.path = path
        self.trials = path / "trials"
        self._logs = path / "logs"
        for folder in (self.trials, self._logs):
            folder.mkdir(parents=True, exist_ok=True)

    def model_dir(self, point: Point) -> Path:
        """Returns the model_dir of a point."""
        return self.trials / point_name(point)

    def log(self, point: Point) -> Path:
        """Returns the file that takes what the training of a point prints."""
        return self._logs / f"{point_name(point)}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until no other process changes the sweep, and keeps the others out."""
        with open(self.path / "lock", "a") as lock:
            _flock(lock, fcntl.LOCK_EX)
            yield

    def claim(self, point: Point) -> IO[bytes] | None:
        """Returns the log of a point, open and locked, or None while another process trains it.

        A child that gets the file as its output holds the lock too: the point is free when both are gone.
        """
        log = open(self.log(point), "ab")  # noqa: SIM115 (the caller closes it)
        if _flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return log
        log.close()
        return None

    def study_name(self, settings: Mapping[str, str], config: str) -> str:
        """Returns the name under which the storage knows the sweep; the first process chooses it.

        Args:
            settings: values that all processes of a sweep share, by flag.
            config: the whole gin configuration.

        Raises:
            UserError: if the sweep was started with other ones; says which.
        """
        path = self.path / _SWEEP_JSON
        now = [*(f"--{flag}={value}" for flag, value in settings.items()), *config.splitlines()]
        if not path.exists():
            started = {"study": f"{self.path.resolve().name}-{uuid.uuid4().hex[:8]}", "settings": now}
            files.write_text(path, json.dumps(started, indent=2) + "\n")
        started = json.loads(path.read_text())
        was = [line for line in started["settings"] if line not in now]
        new = [line for line in now if line not in started["settings"]]
        if was or new:
            changes = f"was {'; '.join(was[:3]) or 'not set'}, is {'; '.join(new[:3]) or 'not set'}"
            raise UserError(f"{self.path}: this sweep was started with other settings ({changes}); use another folder")
        return started["study"]


def point_name(point: Point) -> str:
    """Returns the name of a point's files, such as ``base_learning_rate=0.1,rate=0.0001``."""
    return _NO_FILE_NAME.sub("_", ",".join(f"{name}={value}" for name, value in short_names(point).items()))


def short_names(point: Point) -> Point:
    """Returns a point by the last parts of its bindings' names, or by the whole ones where these are not unique."""
    short = {name.split(".")[-1]: value for name, value in point.items()}
    return short if len(short) == len(point) else dict(point)


def _flock(file: IO, operation: int) -> bool:
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{file.name}: its file system has no locks ({error.strerror}), so processes cannot share the sweep; "
            "give a --sweep_dir on one that has, such as a local disk or NFS 4"
        ) from error
    return True
