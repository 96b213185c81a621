"""How fast each form of the network is: ``python -m benchmarks.inference_speed --width_multiplier=1``.

Builds a student of random weights and times, turn by turn, the Keras network in a tf.function, a plain SavedModel of it
and what `flood_distill.export` makes, in float32 and bfloat16, through TensorFlow, OpenVINO and onnxruntime (the last
two if installed), beside a large matrix product. Prints a table and one line of JSON.

``share`` is the floating-point operations of the convolutions in a second of processor time (all threads) over those of
the matrix product of the same precision in the same run: other load on the machine hardly changes it. A peer's number,
measured by its own benchmark on the same quiet machine, goes into ``--peer_images_per_second``.
"""

import dataclasses
import functools
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from flood_distill import contract, export_model, model_info, onnx_format, openvino_engine, predictor
from flood_distill.training import network as network_lib

_SIZE_PX = flags.DEFINE_integer("size_px", 321, "Side of the images.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images at once.")
_WIDTH_MULTIPLIER = flags.DEFINE_float("width_multiplier", 1.0, "Factor on the network's channels; 1 is Xception-65.")
_NUM_MIDDLE_UNITS = flags.DEFINE_integer("num_middle_units", 16, "Middle-flow units; 16 is Xception-65.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed rounds; the median counts.")
_PEER = flags.DEFINE_float("peer_images_per_second", None, "Of another implementation, float32; adds a column.")
_MATRIX_SIZE = flags.DEFINE_integer("matrix_size", 4096, "Side of the matrices of the matrix product.")


_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


@dataclasses.dataclass
class Case:
    """Something to time.

    Attributes:
        name: of its row.
        precision: of the matrix product that it is compared with.
        run: does it once and waits for the result.
        gflop: floating-point operations of one run, in 1e9.
        num_images: images of one run; 0 for the matrix product.
    """

    name: str
    precision: str
    run: Callable[[], np.ndarray]
    gflop: float
    num_images: int


def main(argv: list[str]) -> None:
    """Builds the cases, times them, prints."""
    del argv
    with tempfile.TemporaryDirectory() as scratch:
        products = [matrix_product(precision) for precision in contract.PRECISIONS]
        cases = [*products, *network_cases(Path(scratch))]
        seconds = {case.name: measured for case, measured in zip(cases, measure(cases), strict=True)}
    rates = {case.precision: case.gflop / seconds[case.name][1] for case in products}
    results = [row(case, *seconds[case.name], rates[case.precision]) for case in cases]
    print_table(results)
    print(json.dumps({"benchmark": "inference_speed", **flags_used(), "results": results}))


def network_cases(scratch: Path) -> list[Case]:
    """Returns every form of the network that is installed, with the same images for all."""
    arguments = network_lib.network(
        2, width_multiplier=_WIDTH_MULTIPLIER.value, num_middle_units=_NUM_MIDDLE_UNITS.value
    )
    network = network_lib.build(arguments)
    info = model_info.ModelInfo(
        name="benchmark",
        task="supervised",
        inputs=contract.INPUT_S1,
        network=arguments,
        train_datasets=[contract.HAND],
        dataset=contract.HAND,
        source=contract.SOURCE_SYNTHETIC,
        seed=0,
    )
    shape = (_BATCH_SIZE.value, _SIZE_PX.value, _SIZE_PX.value, 2)
    s1 = np.random.default_rng(0).uniform(-25, -2, shape).astype(np.float32)
    gflop = _BATCH_SIZE.value * convolution_gflop(arguments)
    return [
        Case(name, precision, functools.partial(_probability, serve, s1), gflop, _BATCH_SIZE.value)
        for name, precision, serve in forms(network, info, scratch)
    ]


def forms(network: keras.Model, info: model_info.ModelInfo, scratch: Path):
    """Yields name, precision and serving function of each form."""
    plain = tf.Module()
    plain.weights = network.variables
    specification = tf.TensorSpec([None, None, None, 2], tf.float32, name=contract.BACKSCATTER_DB)

    @tf.function(input_signature=[specification])
    def keras_model(backscatter_db: tf.Tensor) -> dict[str, tf.Tensor]:
        inference = functools.partial(network, training=False)
        return {contract.WATER_PROBABILITY: predictor.water_probability(inference, info, backscatter_db, None)}

    yield "Keras network", contract.FLOAT32, keras_model
    tf.saved_model.save(plain, str(scratch / "plain"), signatures=keras_model)
    yield "plain SavedModel", contract.FLOAT32, predictor.serving_function(scratch / "plain")
    for precision in contract.PRECISIONS:
        described, folder = dataclasses.replace(info, precision=precision), scratch / precision
        export_model.save(network, described, folder)
        yield f"export {precision}", precision, predictor.serving_function(folder)
        if importlib.util.find_spec("openvino"):
            yield f"export {precision}, OpenVINO", precision, openvino_engine.load(folder, described)
    if importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime"):
        export_model.save_onnx(network, info, scratch / contract.ONNX)
        yield "ONNX float32, onnxruntime", contract.FLOAT32, onnx_format.serving_function(scratch / contract.ONNX)


def convolution_gflop(arguments: dict) -> float:
    """Returns the floating-point operations of a network's convolutions for one image, in 1e9: two per product."""
    network = network_lib.build({**arguments, "input_size": _SIZE_PX.value})
    convolutions = [layer for layer in network.layers if isinstance(layer, _CONVOLUTIONS)]
    return sum(2 * np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape) for layer in convolutions) / 1e9


def matrix_product(precision: str) -> Case:
    """Returns the product of two large square matrices."""
    size = _MATRIX_SIZE.value
    matrix = tf.cast(tf.random.normal([size, size]), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]))
    return Case(f"matrix product {precision}", precision, lambda: product().numpy(), 2 * size**3 / 1e9, 0)


def measure(cases: list[Case]) -> list[tuple[float, float]]:
    """Returns the median seconds and seconds of processor time of each case; the cases take turns."""
    for case in cases:
        case.run()
    times = [[_timed(case.run) for case in cases] for _ in range(_ROUNDS.value)]
    return [tuple(map(statistics.median, zip(*column, strict=True))) for column in zip(*times, strict=True)]


def row(case: Case, seconds: float, cpu_seconds: float, product_rate: float) -> dict:
    """Returns the numbers of one case."""
    numbers = {
        "case": case.name,
        "images_per_second": case.num_images / seconds,
        "images_per_cpu_second": case.num_images / cpu_seconds,
        "gflop_per_second": case.gflop / seconds,
        "share_of_matrix_product": case.gflop / cpu_seconds / product_rate,
    }
    if _PEER.value and case.num_images:
        numbers["times_peer"] = numbers["images_per_second"] / _PEER.value
    return numbers


def print_table(results: list[dict]) -> None:
    """Prints one line a case."""
    print(f"{'':32} {'images/s':>9} {'per CPU s':>9} {'GFLOP/s':>8} {'share':>6}" + "  x peer" * bool(_PEER.value))
    for result in results:
        peer = f" {result['times_peer']:7.2f}" if "times_peer" in result else ""
        print(
            f"{result['case']:32} {result['images_per_second']:9.2f} {result['images_per_cpu_second']:9.2f} "
            f"{result['gflop_per_second']:8.0f} {result['share_of_matrix_product']:6.0%}{peer}"
        )


def flags_used() -> dict[str, float | None]:
    """Returns the flags that say what was timed."""
    holders = (_SIZE_PX, _BATCH_SIZE, _WIDTH_MULTIPLIER, _NUM_MIDDLE_UNITS, _ROUNDS, _PEER)
    return {holder.name: holder.value for holder in holders}


def _probability(serve: Callable[..., dict], s1: np.ndarray) -> np.ndarray:
    return np.asarray(serve(**{contract.BACKSCATTER_DB: s1})[contract.WATER_PROBABILITY])


def _timed(run: Callable[[], np.ndarray]) -> tuple[float, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - cpu_start


if __name__ == "__main__":
    app.run(main)
