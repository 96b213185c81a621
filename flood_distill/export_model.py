"""Export as a SavedModel that needs nothing but TensorFlow, or as ONNX: NaN in, NaN out, any height and width."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from etils import epath

from flood_distill import (
    contract,
    files,
    inference_graph,
    model_card,
    model_info,
    object_store,
    onnx_format,
    serving_files,
)
from flood_distill.errors import UserError
from flood_distill.predictor import (
    EXTRA_ASSETS_DIR,
    SAVED_MODEL_FILE,
    SERVING_SIGNATURE,
    serving_function,
)
from flood_distill.probability import water_probability
from flood_distill.training import model_files

TILE_SIGNATURE = "tile_321"
TILE_SIZE_PX = 321  # section 3.1: crops of 321 x 321
EXAMPLE_SIGNATURE = "tf_example"
SERIALIZED = "serialized"  # input of tf_example: string [batch]
TOLERANCE = 1e-4  # largest difference between the exported model's probabilities and the evaluator's, in float32
_VERIFIED_SIZES_PX = ((321, 321), (50, 131))
# In words, of all pixels, allowed. In bfloat16 single pixels of random input differ by more.
_TOLERANCES = {contract.FLOAT32: ("at most", np.max, TOLERANCE), contract.BFLOAT16: ("on average", np.mean, 0.05)}


class FloodModel(tf.Module):
    """The network with everything around it: no data, normalisation, padding, softmax, threshold.

    A SavedModel holds the signatures and one function with the network's weights as constants, no Keras layers.

    Args:
        network: image -> logits [batch, height, width, 2].
        info: its description; says the precision.
    """

    def __init__(self, network: keras.Model, info: model_info.ModelInfo):
        super().__init__(name="flood_model")
        self._info = info
        self._probability_fn = functools.partial(
            water_probability, inference_graph.freeze(network, info.precision), info
        )

    def predict(self, **images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns water_probability and water_mask for inputs named and made as `contract.Imagery` says."""
        imagery = self._info.imagery
        probability = self._probability_fn(images[imagery.s1_input], images.get(imagery.s2_input))
        water = tf.cast(probability >= self._info.threshold, tf.uint8)
        nodata = tf.constant(contract.MASK_NODATA, tf.uint8)
        return {
            contract.WATER_PROBABILITY: probability,
            contract.WATER_MASK: tf.where(tf.math.is_nan(probability), nodata, water),
        }

    def predict_serialized(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the same for serialized records of ours, string [batch]."""
        return self.predict(**decode_records(serialized, self._info))

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Traces the signatures: serving_default, tile_321 and tf_example."""
        specs = {
            SERVING_SIGNATURE: self.image_specs(),
            TILE_SIGNATURE: self.image_specs(TILE_SIZE_PX),
        }
        functions = {name: tf.function(self.predict).get_concrete_function(**spec) for name, spec in specs.items()}
        serialized = tf.TensorSpec([None], tf.string, name=SERIALIZED)
        functions[EXAMPLE_SIGNATURE] = tf.function(self.predict_serialized).get_concrete_function(serialized)
        return functions

    @tf.function(input_signature=[])
    def input_contract(self) -> tf.Tensor:
        """Returns what the inputs hold (bands, order, unit, range, resolution, no data) as JSON."""
        return tf.constant(json.dumps(model_card.input_contract(self._info)))

    def image_specs(self, size_px: int | None = None) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of `predict` by name; of any size by default."""
        return {
            name: tf.TensorSpec([None, size_px, size_px, len(bands)], tf.float32, name=name)
            for name, bands in _input_bands(self._info).items()
        }


def export(
    model_dir: str,
    export_dir: str,
    *,
    precision: str = contract.FLOAT32,
    export_format: str = contract.SAVED_MODEL,
    metrics_files: Sequence[str] = (),
) -> str:
    """Exports the best weights of a model_dir as the next version under `export_dir`.

    The version appears under its name only after it has been loaded again and gives the probabilities of the network
    it came from, in float32 to 1e-4. model.json, the model card and, for a SavedModel, warm-up requests lie in its
    assets.extra; batching_parameters.txt and models.config beside the versions.

    Args:
        model_dir: folder of a training run.
        export_dir: folder of the model's versions: 1, 2, ...
        precision: arithmetic of the network: ``float32``, or ``bfloat16`` for processors that have it.
        export_format: ``saved_model``, or ``onnx`` for a file model.onnx in place of the SavedModel, float32 only.
        metrics_files: metrics.json of evaluations of this model, for its card.

    Returns:
        The path of the new version.

    Raises:
        UserError: if there are no best weights, they look at Sentinel-2 alone, the exported model differs, the versions
            there are not of this format, or a metrics.json is of another model.
    """
    if export_format == contract.ONNX:
        _check_onnx(precision)
    object_store.connect(model_dir, export_dir)
    network, info = model_files.load_best(model_dir)
    if info.inputs == contract.INPUT_S2:
        raise UserError(
            f"{model_dir}: looks at Sentinel-2 alone, which is a comparison and not exported; export a student"
        )
    info = dataclasses.replace(info, precision=precision)
    metrics = model_card.read_metrics(metrics_files, info)
    save_fn, last = {contract.SAVED_MODEL: (save, SAVED_MODEL_FILE), contract.ONNX: (save_onnx, onnx_format.ONNX_FILE)}[
        export_format
    ]
    root = epath.Path(export_dir)
    files.make_folder(root)
    _check_versions(root, last)
    with files.partial(root / "version") as temporary:
        save_fn(network, info, temporary)
        difference = verify(network, info, temporary)
        _write_card(model_card.card(info, metrics, _gin_config(model_dir)), temporary / EXTRA_ASSETS_DIR)
        target = root / str(next_version(root, last))
        files.publish(temporary, target, last=last)
    if export_format == contract.SAVED_MODEL:
        serving_files.write_server_files(root)
    words, _, allowed = _TOLERANCES[precision]
    print(f"Loaded again and compared: probabilities differ {words} by {difference:.1e} (allowed {allowed:g})")
    return str(target)


def save(network: keras.Model, info: model_info.ModelInfo, folder: Path) -> None:
    """Writes the SavedModel and, in assets.extra, its model.json and warm-up requests."""
    model = FloodModel(network, info)
    tf.saved_model.save(model, str(folder), signatures=model.signatures())
    _write_info(info, folder)
    specs = {SERVING_SIGNATURE: model.image_specs(), TILE_SIGNATURE: model.image_specs(TILE_SIZE_PX)}
    serving_files.write_warmup(specs, info.name, TILE_SIZE_PX, folder / EXTRA_ASSETS_DIR / serving_files.WARMUP_FILE)


def save_onnx(network: keras.Model, info: model_info.ModelInfo, folder: Path) -> None:
    """Writes model.onnx and, in assets.extra, its model.json."""
    model = FloodModel(network, info)
    onnx_format.save(model.predict, model.image_specs(), folder)
    _write_info(info, folder)


def decode_records(serialized: tf.Tensor, info: model_info.ModelInfo) -> dict[str, tf.Tensor]:
    """Decodes serialized records of the TFDS datasets that a model was trained on.

    Args:
        serialized: string [batch], ``tf.train.Example`` protocol buffers.
        info: the model's description.

    Returns:
        float32 [batch, tile, tile, bands of all dates] by the name of the model's input.
    """
    imagery = info.imagery
    dtypes = {contract.S1: contract.S1_DTYPE, contract.S2: contract.S2_DTYPE}
    modalities = {imagery.s1_input: contract.S1, imagery.s2_input: contract.S2}
    features = {name: imagery.dates[modalities[name]] for name in _input_bands(info)}
    wanted = {feature: tf.io.FixedLenFeature([], tf.string) for some in features.values() for feature in some}
    parsed = tf.io.parse_example(serialized, wanted)

    def decode(feature: str, dtype: type) -> tf.Tensor:
        shape = [-1, imagery.tile_size_px, imagery.tile_size_px, len(imagery.feature_bands[feature])]
        return tf.cast(tf.reshape(tf.io.decode_raw(parsed[feature], tf.as_dtype(dtype)), shape), tf.float32)

    return {
        name: tf.concat([decode(feature, dtypes[modalities[name]]) for feature in some], axis=-1)
        for name, some in features.items()
    }


def next_version(export_dir: epath.Path, last: str = SAVED_MODEL_FILE) -> int:
    """Returns one more than the highest version in a folder, 1 in an empty one.

    In an object store a version counts when it is whole, with its file `last`: what a killed export left is replaced.
    """
    versions = [child for child in object_store.children(export_dir) if child.name.isdigit()]
    if object_store.is_remote(export_dir):
        versions = [child for child in versions if (child / last).exists()]
    return max((int(child.name) for child in versions), default=0) + 1


def verify(network: keras.Model, info: model_info.ModelInfo, folder: Path) -> float:
    """Compares an exported model with the network it came from on random input with no-data in it.

    Returns:
        The largest difference between their probabilities; the mean one in bfloat16.

    Raises:
        UserError: if it is above 1e-4, 0.05 in bfloat16, or no-data differs anywhere.
    """
    is_onnx = (folder / onnx_format.ONNX_FILE).exists()
    serve = onnx_format.serving_function(folder) if is_onnx else serving_function(folder)
    _, reduce, allowed = _TOLERANCES[info.precision]
    difference = max(
        reduce(_differences(network, info, serve, _random_inputs(seed, size_px, info), folder))
        for seed, size_px in enumerate(_VERIFIED_SIZES_PX)
    )
    if not difference <= allowed:
        raise UserError(f"{folder}: the exported model differs by {difference:g}; nothing was exported")
    return float(difference)


def _differences(
    network: keras.Model, info: model_info.ModelInfo, serve, inputs: dict[str, np.ndarray], folder: Path
) -> np.ndarray:
    """Returns how much the probabilities of valid pixels differ, float32 [pixels]."""
    images = [tf.constant(image) for image in inputs.values()]
    expected = water_probability(
        functools.partial(network, training=False), info, *images, *[None] * (2 - len(images))
    ).numpy()
    actual = serve(**inputs)
    probability, mask = (np.asarray(actual[name]) for name in (contract.WATER_PROBABILITY, contract.WATER_MASK))
    nodata = np.isnan(inputs[info.imagery.s1_input]).any(axis=-1)
    if not all(np.array_equal(nodata, other) for other in (np.isnan(probability), mask == contract.MASK_NODATA)):
        raise UserError(f"{folder}: the exported model does not keep no-data; nothing was exported")
    return np.abs(probability - expected)[~nodata]


def _check_onnx(precision: str) -> None:
    """Raises UserError where ONNX cannot be written."""
    if precision != contract.FLOAT32:
        raise UserError(f"--precision={precision}: onnxruntime has no such convolution on CPUs; ONNX is float32 only")
    onnx_format.check_installed()


def _check_versions(export_dir: epath.Path, last: str) -> None:
    """Raises UserError if a folder holds versions of the other format: TensorFlow Serving takes the highest number."""
    for child in object_store.children(export_dir):
        others = [
            name for name in (SAVED_MODEL_FILE, onnx_format.ONNX_FILE) if name != last and (child / name).exists()
        ]
        if others:
            raise UserError(f"{child} holds {others[0]}: give each format an --export_dir of its own")


def _gin_config(model_dir: str) -> str:
    """Returns the operative configuration of a training run, empty if there is none."""
    path = epath.Path(model_dir) / contract.OPERATIVE_CONFIG_GIN
    return path.read_text() if path.exists() else ""


def _write_card(content: dict, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / model_card.MODEL_CARD_JSON).write_text(json.dumps(content, indent=2) + "\n")
    (folder / model_card.MODEL_CARD_MD).write_text(model_card.as_markdown(content))


def _write_info(info: model_info.ModelInfo, folder: Path) -> None:
    extra = folder / EXTRA_ASSETS_DIR
    extra.mkdir()
    model_info.write(info, extra)


def _input_bands(info: model_info.ModelInfo) -> dict[str, tuple[contract.Band, ...]]:
    """Returns the bands of each input of a model's SavedModel, by the input's name."""
    imagery = info.imagery
    s2 = {imagery.s2_input: imagery.s2_bands} if info.inputs == contract.INPUT_S1_S2 else {}
    return {imagery.s1_input: imagery.s1_bands} | s2


def _random_inputs(seed: int, size_px: tuple[int, int], info: model_info.ModelInfo) -> dict[str, np.ndarray]:
    """Returns two random images a little beyond the bands' limits, with a rim and scattered pixels of no-data."""
    generator = np.random.default_rng(seed)
    images = {
        name: generator.uniform(*_beyond_limits(bands), (2, *size_px, len(bands))).astype(np.float32)
        for name, bands in _input_bands(info).items()
    }
    s1, s2 = (images.get(name) for name in (info.imagery.s1_input, info.imagery.s2_input))
    s1[:, :3] = np.nan
    s1[generator.random(s1.shape) < 0.01] = np.nan
    if s2 is not None:
        s2[:, -3:] = contract.S2_NODATA
    return images


def _beyond_limits(bands: Sequence[contract.Band]) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.array([getattr(band, limit) for band in bands]) for limit in ("low", "high"))
    return low - (high - low) / 4, high + (high - low) / 4
