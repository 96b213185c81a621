"""Two logical CPUs for every test process, and a gin configuration of its own for every file."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import gin  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True, scope="module")
def own_gin_configuration():
    """A file that leaves gin bound or locked does not reach the next one in the same process."""
    gin.clear_config()
    yield
    gin.clear_config()
