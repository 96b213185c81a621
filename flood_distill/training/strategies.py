"""tf.distribute strategies by name, and what goes with them: workers, batches by replica, who writes."""

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from flood_distill import contract, run_lock
from flood_distill.errors import UserError
from flood_distill.input_pipeline import Part
from flood_distill.training import lost_workers

_TF_CONFIG = "TF_CONFIG"  # tf.distribute's variable: the cluster and the task of this process in it


def make_strategy(name: str = "auto", tpu: str = "") -> tf.distribute.Strategy:
    """Returns the strategy that `--strategy` names.

    With several workers it has to be called before TensorFlow does anything else, and waits for all of them.

    Args:
        name: ``auto`` (TPU if `tpu` is given, else workers if TF_CONFIG names some, else all GPUs, else the CPU),
            ``cpu``, ``mirrored`` (all GPUs, or all logical CPUs where there is none), ``multi_worker`` (TF_CONFIG names
            the cluster) or ``tpu``.
        tpu: name or address of the TPU.

    Raises:
        UserError: for an unknown name or a device that is not there.
    """
    if name not in contract.STRATEGIES:
        raise UserError(f"--strategy={name}: not one of {', '.join(contract.STRATEGIES)}")
    if name == "tpu" or (name == "auto" and tpu):
        return _tpu_strategy(tpu)
    if name == "multi_worker" or (name == "auto" and _num_workers() > 1):
        return _multi_worker_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return _mirrored_strategy(tuple(device.name for device in devices))
    if name == "auto" and gpus:
        return tf.distribute.OneDeviceStrategy(gpus[0].name)
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def set_workers(workers: Sequence[str], index: int) -> None:
    """Writes TF_CONFIG for this process.

    Args:
        workers: ``host:port`` of every worker, the same list on all; the first is the chief. Empty changes nothing.
        index: which of them this process is, counted from 0.

    Raises:
        UserError: if the list or the index makes no sense.
    """
    if not workers:
        return
    if wrong := [worker for worker in workers if not worker.rpartition(":")[2].isdigit() or worker[0] == ":"]:
        raise UserError(f"--workers: {wrong[0]!r} is not HOST:PORT")
    if len(set(workers)) < len(workers):
        raise UserError("--workers names one twice: every worker needs its own HOST:PORT")
    if not 0 <= index < len(workers):
        raise UserError(f"--worker_index={index}: give 0 to {len(workers) - 1}, the place of this worker in --workers")
    os.environ[_TF_CONFIG] = json.dumps(
        {"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": index}}
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what is written once: the only one, or the first of several workers."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
    )


@contextlib.contextmanager
def own_folder(strategy: tf.distribute.Strategy, model_dir: str) -> Iterator[str]:
    """Gives the folder that this process may write to: `model_dir`, locked, to the chief; others a temporary one.

    Raises:
        UserError: if another run holds `model_dir`.
    """
    if is_chief(strategy):
        with run_lock.only_run(model_dir):
            yield model_dir
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def distribute(
    strategy: tf.distribute.Strategy, make_part: Callable[[Part], tf.data.Dataset]
) -> tf.distribute.DistributedDataset:
    """Returns global batches, split over the replicas in order.

    Args:
        strategy: of the training.
        make_part: gives one worker's part of every global batch, in batches of one replica.
    """

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_part(Part(context.input_pipeline_id, context.num_input_pipelines, context.num_replicas_in_sync))

    return strategy.distribute_datasets_from_function(make)


@functools.cache
def _mirrored_strategy(devices: Sequence[str]) -> tf.distribute.Strategy:
    """One a process: every strategy numbers its collectives from the same start, and two on the same CPUs mix up."""
    return tf.distribute.MirroredStrategy(devices)


def _num_workers() -> int:
    try:
        cluster = json.loads(os.environ.get(_TF_CONFIG, "{}")).get("cluster", {})
    except ValueError as error:
        raise UserError(f"{_TF_CONFIG} is not JSON ({error}); --workers and --worker_index write it") from error
    return sum(len(tasks) for tasks in cluster.values())


def _multi_worker_strategy() -> tf.distribute.Strategy:
    if not _num_workers():
        raise UserError("--strategy=multi_worker: give --workers and --worker_index, or set TF_CONFIG")
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except lost_workers.LOST:
        raise  # the others did not come; started again, they may
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"--strategy=multi_worker: {' '.join(str(error).split())}") from error


def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"--tpu={tpu}: no TPU system there; is tensorflow-tpu installed? ({error})") from error
    return tf.distribute.TPUStrategy(resolver)
