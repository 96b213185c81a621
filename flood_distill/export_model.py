"""Export as a SavedModel that needs nothing but TensorFlow: NaN in, NaN out, any height and width."""

import functools
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from etils import epath

from flood_distill import contract, files, model_info, object_store
from flood_distill.errors import UserError
from flood_distill.predictor import EXTRA_ASSETS_DIR, SAVED_MODEL_FILE, SERVING_SIGNATURE, water_probability
from flood_distill.training import model_files

TILE_SIGNATURE = "tile_321"
TILE_SIZE_PX = 321  # section 3.1: crops of 321 x 321
EXAMPLE_SIGNATURE = "tf_example"
SERIALIZED = "serialized"  # input of tf_example: string [batch]
TOLERANCE = 1e-4  # largest difference between the exported model's probabilities and the evaluator's
_VERIFIED_SIZES_PX = ((321, 321), (50, 131))


class FloodModel(tf.Module):
    """The network with everything around it: no data, normalisation, padding, softmax, threshold.

    Of the network only the variables are attributes, so that a SavedModel holds them and the signatures but no Keras
    layers: it is smaller, and written and loaded twice as fast.

    Args:
        network: image -> logits [batch, height, width, 2].
        info: its description.
    """

    def __init__(self, network: keras.Model, info: model_info.ModelInfo):
        super().__init__(name="flood_model")
        self.weights = network.variables
        self._info = info
        self._probability_fn = functools.partial(water_probability, network, info)

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
            SERVING_SIGNATURE: self._image_specs(None),
            TILE_SIGNATURE: self._image_specs(TILE_SIZE_PX),
        }
        functions = {name: tf.function(self.predict).get_concrete_function(**spec) for name, spec in specs.items()}
        serialized = tf.TensorSpec([None], tf.string, name=SERIALIZED)
        functions[EXAMPLE_SIGNATURE] = tf.function(self.predict_serialized).get_concrete_function(serialized)
        return functions

    def _image_specs(self, size_px: int | None) -> dict[str, tf.TensorSpec]:
        return {
            name: tf.TensorSpec([None, size_px, size_px, len(bands)], tf.float32, name=name)
            for name, bands in _input_bands(self._info).items()
        }


def export(model_dir: str, export_dir: str) -> str:
    """Exports the best weights of a model_dir as the next version under `export_dir`.

    The version appears under its name only after it has been loaded again and gives the probabilities of the network
    it came from to 1e-4. Its model.json lies in assets.extra.

    Args:
        model_dir: folder of a training run.
        export_dir: folder of the model's versions: 1, 2, ...

    Returns:
        The path of the new version.

    Raises:
        UserError: if there are no best weights, or the exported model differs.
    """
    object_store.connect(model_dir, export_dir)
    network, info = model_files.load_best(model_dir)
    root = epath.Path(export_dir)
    files.make_folder(root)
    with files.partial(root / "version") as temporary:
        save(network, info, temporary)
        difference = verify(network, info, temporary)
        target = root / str(next_version(root))
        files.publish(temporary, target, last=SAVED_MODEL_FILE)
    print(f"Loaded again and compared: probabilities differ by at most {difference:.1e} (allowed {TOLERANCE:g})")
    return str(target)


def save(network: keras.Model, info: model_info.ModelInfo, folder: Path) -> None:
    """Writes the SavedModel and, in assets.extra, its model.json."""
    model = FloodModel(network, info)
    tf.saved_model.save(model, str(folder), signatures=model.signatures())
    extra = folder / EXTRA_ASSETS_DIR
    extra.mkdir()
    model_info.write(info, extra)


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


def next_version(export_dir: epath.Path) -> int:
    """Returns one more than the highest version in a folder, 1 in an empty one.

    In an object store a version counts when it is whole: what a killed export left is replaced.
    """
    versions = [child for child in object_store.children(export_dir) if child.name.isdigit()]
    if object_store.is_remote(export_dir):
        versions = [child for child in versions if (child / SAVED_MODEL_FILE).exists()]
    return max((int(child.name) for child in versions), default=0) + 1


def verify(network: keras.Model, info: model_info.ModelInfo, folder: Path) -> float:
    """Compares a SavedModel with the network it came from on random input with no-data in it.

    Returns:
        The largest difference between their probabilities.

    Raises:
        UserError: if it is above 1e-4, or no-data differs anywhere.
    """
    serve = tf.saved_model.load(str(folder)).signatures[SERVING_SIGNATURE]
    differences = []
    for seed, size_px in enumerate(_VERIFIED_SIZES_PX):
        inputs = _random_inputs(seed, size_px, info)
        expected = water_probability(network, info, *inputs.values(), *[None] * (2 - len(inputs))).numpy()
        actual = serve(**inputs)
        probability, mask = actual[contract.WATER_PROBABILITY].numpy(), actual[contract.WATER_MASK].numpy()
        nodata = np.isnan(inputs[info.imagery.s1_input].numpy()).any(axis=-1)
        if not all(np.array_equal(nodata, other) for other in (np.isnan(probability), mask == contract.MASK_NODATA)):
            raise UserError(f"{folder}: the exported model does not keep no-data; nothing was exported")
        differences.append(float(np.nanmax(np.abs(probability - expected))))
    if not max(differences) <= TOLERANCE:
        raise UserError(f"{folder}: the exported model differs by {max(differences):g}; nothing was exported")
    return max(differences)


def _input_bands(info: model_info.ModelInfo) -> dict[str, tuple[contract.Band, ...]]:
    """Returns the bands of each input of a model's SavedModel, by the input's name."""
    imagery = info.imagery
    s2 = {imagery.s2_input: imagery.s2_bands} if info.inputs == contract.INPUT_S1_S2 else {}
    return {imagery.s1_input: imagery.s1_bands} | s2


def _random_inputs(seed: int, size_px: tuple[int, int], info: model_info.ModelInfo) -> dict[str, tf.Tensor]:
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
    return {name: tf.constant(image) for name, image in images.items()}


def _beyond_limits(bands: Sequence[contract.Band]) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.array([getattr(band, limit) for band in bands]) for limit in ("low", "high"))
    return low - (high - low) / 4, high + (high - low) / 4
