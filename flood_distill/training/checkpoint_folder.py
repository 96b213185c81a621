"""Numbered checkpoints in a folder: one is there when it is whole, and only whole ones are read.

TensorFlow writes under temporary names, the data first and the index last, so the index makes a checkpoint. What a
crash of the machine or a full disk damages all the same shows in the checksums, one a tensor.
"""

import re
import sys
import tempfile

import tensorflow as tf
from etils import epath
from tqdm import tqdm

from flood_distill import object_store
from flood_distill.errors import UserError
from flood_distill.training import lost_workers

_FILE = re.compile(r"ckpt-(\d+)(?!\d)")  # any file of a checkpoint
_INDEX = re.compile(r"ckpt-(\d+)\.index")  # the one that makes it


class CheckpointFolder:
    """Saves one object's state under numbers, the latest few of them.

    Args:
        checkpoint: what is saved.
        folder: where; checkpoints of an earlier process in it count.
        max_to_keep: number of latest checkpoints to keep.
        write: whether this process writes to the folder. One that does not, a worker beside the chief, still takes
            part in every save, because reading distributed variables takes all; its own copy is thrown away.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: epath.Path, max_to_keep: int, write: bool = True):
        self._checkpoint = checkpoint
        self._folder = epath.Path(folder)
        self._max_to_keep = max_to_keep
        self._manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep) if write else None

    def save(self, number: int) -> None:
        """Saves the state under a number; an older checkpoint of that number is replaced.

        Raises:
            UserError: if it cannot be written, because the disk is full; the checkpoints from before are untouched.
        """
        if self._manager is None:
            with tempfile.TemporaryDirectory() as folder:
                self._checkpoint.write(f"{folder}/ckpt")
            return
        # Without its index it is not there: no moment shows new data under an old index.
        (self._folder / f"ckpt-{number}.index").unlink(missing_ok=True)
        try:
            self._manager.save(checkpoint_number=number)
        except lost_workers.LOST:
            raise
        except tf.errors.OpError as error:
            _remove_leftovers(self._folder)
            raise UserError(
                f"{self._folder}: checkpoint {number} cannot be written ({_reason(error)}); the earlier ones are "
                "whole: make room and run the same command again"
            ) from error
        self._sweep(number)

    def next_number(self) -> int:
        """One more than the highest number in the folder; 1 in an empty one."""
        return max(_numbers(self._folder), default=0) + 1

    def _sweep(self, newest: int) -> None:
        """Removes what the manager's list, which a kill can leave behind the folder, does not tell it to."""
        numbers = sorted(_numbers(self._folder))
        too_old = [number for number in numbers if number <= newest][: -self._max_to_keep]
        damaged = [number for number in numbers if number > newest]  # else the run had gone on from them
        for number in (*too_old, *damaged):
            (self._folder / f"ckpt-{number}.index").unlink()
        _remove_leftovers(self._folder)


def newest_whole(folder: epath.Path) -> str | None:
    """Returns the newest checkpoint all of whose tensors can be read; None if there is no checkpoint.

    Warns of every newer one that is damaged.

    Raises:
        UserError: if there are checkpoints and all are damaged.
    """
    numbers = sorted(_numbers(folder), reverse=True)
    for number in numbers:
        path = str(folder / f"ckpt-{number}")
        fault = _fault(path)
        if not fault:
            return path
        warn(f"{path} is damaged and left out ({fault})")
    if numbers:
        raise UserError(f"{folder}: no checkpoint in it can be read; put a copy back, or remove the folder")
    return None


def warn(message: str) -> None:
    """Prints a warning above the progress bar."""
    tqdm.write(f"warning: {message}", file=sys.stderr)


def _remove_leftovers(folder: epath.Path) -> None:
    """Removes what a save that was cut off left: files of checkpoints without an index."""
    whole = _numbers(folder)
    for path in object_store.children(folder):
        of = _FILE.match(path.name)
        if of and (int(of[1]) not in whole or "temp" in path.name):
            path.rmtree() if path.is_dir() else path.unlink(missing_ok=True)


def _numbers(folder: epath.Path) -> set[int]:
    """From the files, not from TensorFlow's list of them, which may be older or damaged itself."""
    matches = [_INDEX.fullmatch(path.name) for path in object_store.children(folder)]
    return {int(match[1]) for match in matches if match}


def _fault(path: str) -> str:
    """Returns why a checkpoint cannot be read, or ''. Reading a tensor compares its checksum."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError) as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """TensorFlow's sentence without the operation's name."""
    return " ".join(str(error).split("}}")[-1].split("[Op:")[0].split())
