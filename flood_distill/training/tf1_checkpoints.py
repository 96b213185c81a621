"""Files of TF1 checkpoints: tensors by variable name, as tensorflow/models, research/deeplab writes and reads them."""

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from flood_distill import files, object_store
from flood_distill.errors import UserError

_INDEX = ".index"
_DATA = ".data-00000-of-00001"
# What tf.train.load_checkpoint and its reader raise for damaged files.
_READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError)
_FILE_OF_A_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def find(path: str) -> str:
    """Returns the prefix of a checkpoint, what its files' names have in common, such as ``DIR/model.ckpt``.

    Args:
        path: the prefix, one of the files, or a folder: its latest checkpoint, or the only one in it.

    Raises:
        UserError: if there is no checkpoint, or no telling which.
    """
    object_store.connect(path)
    prefix = _FILE_OF_A_CHECKPOINT.sub("", path)
    if tf.io.gfile.exists(prefix + _INDEX):
        return prefix
    found = tf.io.gfile.glob(os.path.join(path, f"*{_INDEX}"))
    latest = tf.train.latest_checkpoint(path) if found else None
    if latest or len(found) == 1:
        return latest or found[0].removesuffix(_INDEX)
    if found:
        names = ", ".join(sorted(os.path.basename(name).removesuffix(_INDEX) for name in found))
        raise UserError(f"{path}: several checkpoints are there, name one: {names}")
    raise UserError(
        f"{path}: no TF1 checkpoint; give the folder of the unpacked archive or the path up to and with .ckpt"
    )


class Reader:
    """A checkpoint that is open for reading.

    Args:
        prefix: from `find`.

    Raises:
        UserError: if it cannot be read.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix
        try:
            self._reader = tf.train.load_checkpoint(prefix)
        except _READ_ERRORS as error:
            raise self._damaged(error) from error
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(shape) for name, shape in sorted(self._reader.get_variable_to_shape_map().items())
        }

    def tensors(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Returns tensors by name.

        Raises:
            UserError: if one is damaged or holds values that are not finite.
        """
        found = {}
        for name in names:
            try:
                found[name] = self._reader.get_tensor(name)
            except _READ_ERRORS as error:
                raise self._damaged(error) from error
            if not np.all(np.isfinite(found[name])):
                raise UserError(f"{self.prefix}: {name} holds values that are not finite; take another checkpoint")
        return found

    def _damaged(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())
        return UserError(f"{self.prefix}: damaged or incomplete checkpoint, fetch it again ({reason})")


def write(tensors: Mapping[str, np.ndarray], prefix: str) -> None:
    """Writes a checkpoint that `tf.train.load_checkpoint` and TF1's Saver read, whole or not at all.

    Args:
        tensors: by variable name.
        prefix: such as ``DIR/model.ckpt``; gives model.ckpt.index and model.ckpt.data-00000-of-00001.
    """
    object_store.connect(prefix)
    with files.partial(prefix) as folder:
        folder.mkdir()
        temporary = str(folder / "checkpoint")
        tf.raw_ops.SaveV2(
            prefix=temporary,
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=[tf.constant(tensor) for tensor in tensors.values()],
        )
        for suffix in (_DATA, _INDEX):  # without the index nobody takes it for whole
            files.publish(folder / f"checkpoint{suffix}", f"{prefix}{suffix}")
