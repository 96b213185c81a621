"""tf.distribute strategies by name."""

import tensorflow as tf

from flood_distill import contract
from flood_distill.errors import UserError


def make_strategy(name: str = "auto", tpu: str = "") -> tf.distribute.Strategy:
    """Returns the strategy that `--strategy` names.

    Args:
        name: ``auto`` (TPU if `tpu` is given, else all GPUs, else the CPU), ``cpu``, ``mirrored`` (all GPUs, or all
            logical CPUs where there is none), ``multi_worker`` (TF_CONFIG names the cluster) or ``tpu``.
        tpu: name or address of the TPU.

    Raises:
        UserError: for an unknown name or a device that is not there.
    """
    if name not in contract.STRATEGIES:
        raise UserError(f"--strategy={name}: not one of {', '.join(contract.STRATEGIES)}")
    gpus = tf.config.list_logical_devices("GPU")
    if name == "tpu" or (name == "auto" and tpu):
        return _tpu_strategy(tpu)
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "auto" and gpus:
        return tf.distribute.OneDeviceStrategy(gpus[0].name)
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"--tpu={tpu}: no TPU system there; is tensorflow-tpu installed? ({error})") from error
    return tf.distribute.TPUStrategy(resolver)
