"""What benchmarks/model_speed.py times: the network in every form, training steps, and the machine's own ceilings."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from flood_distill import contract, export_model, model_info, onnx_format, openvino_engine, predictor, probability
from flood_distill.models import deeplab, folding, operations
from flood_distill.training import mixed_precision, network, objectives, trainer

MATRIX_PRODUCT = "matrix product"
MEMORY_COPY = "memory copy"
INFERENCE = "inference"
TRAINING = "training"
TRAINING_PASSES = 3  # forward, gradient of the images, gradient of the kernels: as many products each
_FIRST_VERSION = "first version"  # Keras's own batch normalisation, nothing folded
_COPIED_BYTES = 2**30

Run = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every case has in common.

    Attributes:
        size_px: side of the images.
        batch_size: images at once.
        width_multiplier: factor on the network's channels.
        num_middle_units: middle-flow units.
        decoder_strides: of the decoder's skips.
        matrix_size: side of the matrices of the matrix product.
    """

    size_px: int
    batch_size: int
    width_multiplier: float
    num_middle_units: int
    decoder_strides: Sequence[int]
    matrix_size: int

    def network(self, num_channels: int = 2) -> dict:
        """Returns the arguments of the network."""
        return network.network(
            num_channels,
            decoder_strides=self.decoder_strides,
            width_multiplier=self.width_multiplier,
            num_middle_units=self.num_middle_units,
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes:
        kind: `MATRIX_PRODUCT`, `MEMORY_COPY`, `INFERENCE` or `TRAINING`.
        precision: of the matrix product that it is compared with.
        make: (settings, empty folder) -> what does it once and waits for the result.
        needs: modules without which it is left out.
    """

    kind: str
    precision: str
    make: Callable[[Settings, Path], Run]
    needs: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether everything that it needs is there."""
        return all(importlib.util.find_spec(module) for module in self.needs)

    def num_images(self, settings: Settings) -> int:
        """Returns the images of one run; 0 for a ceiling."""
        return settings.batch_size if self.kind in (INFERENCE, TRAINING) else 0

    def gflop(self, settings: Settings) -> float:
        """Returns the floating-point operations of one run, in 1e9; 0 for the memory copy."""
        if self.kind == MATRIX_PRODUCT:
            return 2 * settings.matrix_size**3 / 1e9
        passes = TRAINING_PASSES if self.kind == TRAINING else 1
        return 2 * passes * self.num_images(settings) * sum(multiply_adds(settings).values()) / 1e9

    def gigabytes(self) -> float:
        """Returns what one run reads and writes, in 1e9 bytes; 0 but for the memory copy."""
        return 2 * _COPIED_BYTES / 1e9 if self.kind == MEMORY_COPY else 0.0


def multiply_adds(settings: Settings) -> dict[str, int]:
    """Returns the multiply-adds of one image in each convolution of the network, by layer name."""
    return operations.multiply_adds(network.build({**settings.network(), "input_size": settings.size_px}))


def _matrix_product(settings: Settings, scratch: Path, precision: str) -> Run:
    del scratch
    matrix = tf.cast(tf.random.normal([settings.matrix_size] * 2), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]))
    return lambda: product().numpy()


def _memory_copy(settings: Settings, scratch: Path) -> Run:
    """One thread copies; two need not be faster."""
    del settings, scratch
    source = np.ones(_COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    return lambda: np.copyto(target, source)


def _first_version(settings: Settings) -> keras.Model:
    return deeplab.deeplab_v3_plus(**settings.network())


def _images(settings: Settings, num_channels: int = 2) -> np.ndarray:
    shape = (settings.batch_size, settings.size_px, settings.size_px, num_channels)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _keras_predict(settings: Settings, scratch: Path) -> Run:
    del scratch
    model, images = _first_version(settings), _images(settings)
    return functools.partial(model.predict, images, batch_size=settings.batch_size, verbose=0)


def _plain_saved_model(settings: Settings, scratch: Path) -> Run:
    model, info = network.build(settings.network()), _info(settings)
    plain = tf.Module()
    plain.weights = model.variables

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2], tf.float32, name=contract.BACKSCATTER_DB)])
    def serve(backscatter_db: tf.Tensor) -> dict[str, tf.Tensor]:
        inference = functools.partial(model, training=False)
        return {contract.WATER_PROBABILITY: probability.water_probability(inference, info, backscatter_db, None)}

    tf.saved_model.save(plain, str(scratch), signatures=serve)
    return _probability(predictor.serving_function(scratch), settings)


def _export(settings: Settings, scratch: Path, precision: str, engine: str) -> Run:
    info = dataclasses.replace(_info(settings), precision=precision)
    export_model.save(network.build(settings.network()), info, scratch)
    if engine == contract.OPENVINO:
        return _probability(openvino_engine.load(scratch, info), settings)
    return _probability(predictor.serving_function(scratch), settings)


def _onnx(settings: Settings, scratch: Path) -> Run:
    export_model.save_onnx(network.build(settings.network()), _info(settings), scratch / contract.ONNX)
    return _probability(onnx_format.serving_function(scratch / contract.ONNX), settings)


def _probability(serve: Callable[..., dict], settings: Settings) -> Run:
    s1 = _images(settings) * 23 - 25  # dB
    return lambda: np.asarray(serve(**{contract.BACKSCATTER_DB: s1})[contract.WATER_PROBABILITY])


def _info(settings: Settings) -> model_info.ModelInfo:
    return model_info.ModelInfo(
        name="benchmark",
        task="supervised",
        inputs=contract.INPUT_S1,
        network=settings.network(),
        train_datasets=[contract.HAND],
        dataset=contract.HAND,
        source=contract.SOURCE_SYNTHETIC,
        seed=0,
    )


def _training(
    settings: Settings,
    scratch: Path,
    model: Callable[[Settings], keras.Model],
    precision: str,
    recompute: bool = False,
) -> Run:
    del scratch
    return _steps(settings, model(settings), objectives.supervised_objective, precision, recompute)


def _distillation(settings: Settings, scratch: Path, precision: str) -> Run:
    del scratch
    teacher = folding.fold_batch_norms(network.build(settings.network(6)), mixed_precision.TEACHER_PRECISION[precision])
    objective = objectives.distillation_objective(teacher)
    return _steps(settings, _network(precision)(settings), objective, precision)


def _network(precision: str) -> Callable[[Settings], keras.Model]:
    return lambda settings: network.build(settings.network(), precision=precision)


def _steps(
    settings: Settings, model: keras.Model, objective: objectives.Objective, precision: str, recompute: bool = False
) -> Run:
    """Returns one step of momentum descent with weight decay, on the same batch each time."""
    optimizer = mixed_precision.loss_scaling(keras.optimizers.SGD(0.001, momentum=0.9), precision)
    decay = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    strategy = tf.distribute.get_strategy()
    one = trainer.Trainer(strategy, model, optimizer, objective, decay, seed=0, recompute=recompute)
    images = _images(settings, 6)
    batch = {
        contract.IMAGE: images[..., :2],
        contract.LABEL: (images[..., 0] > 0.5).astype(np.int32),
        contract.TEACHER_IMAGE: images,
        contract.VALID: images[..., 0] > 0.1,
    }
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return lambda: one.train_steps(batches, tf.constant(1, tf.int64))[0][trainer.LOSS].numpy()


def _exports() -> dict[str, Case]:
    cases = {}
    for precision in contract.PRECISIONS:
        for engine in contract.ENGINES:
            make = functools.partial(_export, precision=precision, engine=engine)
            needs = (engine,) if engine == contract.OPENVINO else ()
            cases[f"export {precision}, {engine}"] = Case(INFERENCE, precision, make, needs)
    return cases


def _trainings() -> dict[str, Case]:
    first = functools.partial(_training, model=_first_version, precision=contract.FLOAT32)
    cases = {f"training {_FIRST_VERSION}": Case(TRAINING, contract.FLOAT32, first)}
    for precision in (contract.FLOAT32, contract.MIXED_BFLOAT16):
        product = mixed_precision.TEACHER_PRECISION[precision]
        make = functools.partial(_training, model=_network(precision), precision=precision)
        cases[f"training {precision}"] = Case(TRAINING, product, make)
        again = functools.partial(make, recompute=True)
        cases[f"training {precision}, recomputed"] = Case(TRAINING, product, again)
    for precision in (contract.FLOAT32, contract.MIXED_BFLOAT16):
        make = functools.partial(_distillation, precision=precision)
        cases[f"distillation {precision}"] = Case(TRAINING, mixed_precision.TEACHER_PRECISION[precision], make)
    return cases


CASES = {
    **{
        f"{MATRIX_PRODUCT} {precision}": Case(
            MATRIX_PRODUCT, precision, functools.partial(_matrix_product, precision=precision)
        )
        for precision in contract.PRECISIONS
    },
    MEMORY_COPY: Case(MEMORY_COPY, contract.FLOAT32, _memory_copy),
    f"predict {_FIRST_VERSION}": Case(INFERENCE, contract.FLOAT32, _keras_predict),
    "plain SavedModel": Case(INFERENCE, contract.FLOAT32, _plain_saved_model),
    **_exports(),
    "ONNX float32, onnxruntime": Case(INFERENCE, contract.FLOAT32, _onnx, ("tf2onnx", "onnxruntime")),
    **_trainings(),
}
