"""Keeps the chatter of libraries off the terminal."""

import contextlib
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Hides what absl users such as TFDS log below errors, unless ``--verbosity=1`` or more asks for it."""
    verbosity = logging.get_verbosity()
    if verbosity < logging.DEBUG:
        logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
