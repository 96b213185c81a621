"""What a worker does when another one has died."""

import contextlib
import os
import sys
from collections.abc import Iterator

import tensorflow as tf

from flood_distill import exit_codes

# What collective operations raise within seconds after a worker has died, and the strategy when they do not meet.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


@contextlib.contextmanager
def leave_when_one_is_lost() -> Iterator[None]:
    """Ends this process with `exit_codes.WORKER_LOST` when another worker has died.

    At once, because the clean-up of a broken cluster waits for those that are gone. Checkpoints are whole at any time.
    Without a cluster, which TF_CONFIG describes, such an error stays what it is.
    """
    try:
        yield
    except LOST as error:
        if "TF_CONFIG" not in os.environ:
            raise
        reason = " ".join(str(error).split())[:200]
        print(f"error: another worker is gone; start all of them again ({reason})", file=sys.stderr, flush=True)
        os._exit(exit_codes.WORKER_LOST)
