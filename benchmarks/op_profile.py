"""Where the time of one run goes: TensorFlow's own trace, summed by operation and by group of layers."""

import collections
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf

# First match counts; gradients carry the layer's name too.
_GROUPS = (
    ("entry flow", "entry_flow"),
    ("middle flow", "middle_flow"),
    ("exit flow", "exit_flow"),
    ("ASPP", "aspp|image_pooling|concat_projection"),
    ("decoder", "decoder"),
    ("logits", "logits"),
)
_CALLS = re.compile(
    "Call|While|If|Case|Iterator|Dataset|^_(Arg|Retval|Recv|Send)"
)  # time of what they call, or waiting
_TRACE = re.compile(r"^(?P<name>[\w./-]+):(?P<operation>\w+)$")


def trace(run: Callable[[], object], num_runs: int = 2) -> list[tuple[str, str, float]]:
    """Returns name, operation and seconds a run of every operation that TensorFlow executed; others are not seen."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # generated code, part of TensorFlow's wheel

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(num_runs):
                run()
        (path,) = Path(folder).glob("plugins/profile/*/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    events = [
        (plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e12 / num_runs)
        for plane in space.planes
        for line in plane.lines
        for event in line.events
    ]
    matches = [(_TRACE.match(name), seconds) for name, seconds in events]
    return [
        (match["name"], match["operation"], seconds)
        for match, seconds in matches
        if match and not _CALLS.search(match["operation"])
    ]


def group(name: str) -> str:
    """Returns the part of the network that a layer or operation belongs to."""
    return next((title for title, pattern in _GROUPS if re.search(pattern, name)), "other")


def table(
    operations: list[tuple[str, str, float]], multiply_adds: Mapping[str, int], gflop: float, matrix_rate: float
) -> list[dict]:
    """Returns the time, the share of it and the rate of each kind of work in each group of layers.

    Args:
        operations: of `trace`.
        multiply_adds: of each convolution, by layer name.
        gflop: floating-point operations of the whole run, in 1e9; shared out by multiply-adds.
        matrix_rate: of the machine's large matrix product, in GFLOP/s.
    """
    work, seconds = collections.Counter(), collections.Counter()
    for layer, number in multiply_adds.items():
        work[group(layer), _kind(layer, "Conv2D")] += gflop * number / sum(multiply_adds.values())
    for name, operation, duration in operations:
        seconds[group(name), _kind(name, operation)] += duration
    total = sum(seconds.values())
    return [
        {
            "group": where,
            "kind": kind,
            "seconds": duration,
            "share_of_time": duration / total,
            "gflop_per_second": work[where, kind] / duration,
            "share_of_matrix_product": work[where, kind] / duration / matrix_rate,
        }
        for (where, kind), duration in seconds.most_common()
    ]


def by_operation(operations: list[tuple[str, str, float]], most: int = 12) -> dict[str, float]:
    """Returns the share of the time of the operations that take most."""
    seconds = collections.Counter()
    for _, operation, duration in operations:
        seconds[operation] += duration
    total = sum(seconds.values())
    return {operation: duration / total for operation, duration in seconds.most_common(most)}


def _kind(name: str, operation: str) -> str:
    if "Conv" in operation:
        return "depthwise" if "depthwise" in operation.lower() or "depthwise" in name else "convolution"
    return "rest"
