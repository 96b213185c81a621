"""One face for everything that maps radar to water: Otsu's threshold, a model_dir, an exported SavedModel."""

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from etils import epath

from flood_distill import contract, model_info, normalization, object_store, openvino_engine, otsu, sizes
from flood_distill.errors import UserError
from flood_distill.training import model_files

OTSU = "otsu"
SERVING_SIGNATURE = "serving_default"
EXTRA_ASSETS_DIR = "assets.extra"  # TensorFlow's name for files that travel with a SavedModel
SAVED_MODEL_FILE = "saved_model.pb"
MIN_SIZE_PX = 33  # smallest image that every output stride (8, 16, 32) divides into more than one feature


class Predictor(Protocol):
    """Maps tiles to the probability of water.

    Attributes:
        model: what the user named: ``otsu`` or a path.
        name: what reports call it.
        inputs: ``s1`` or ``s1+s2``.
        threshold: water where the probability is at least this.
        dataset: the dataset it was validated on, empty if none.
        source: ``real`` or ``synthetic``: what it was trained on; empty if nothing.
        imagery: what the bands of its images are.
    """

    model: str
    name: str
    inputs: str
    threshold: float
    dataset: str
    source: str
    imagery: contract.Imagery

    def __call__(self, s1: np.ndarray, s2: np.ndarray | None = None) -> np.ndarray:
        """Returns the probability of water.

        Args:
            s1: float32 [batch, height, width, bands], for Sentinel VV and VH in dB, NaN = no data.
            s2: number [batch, height, width, bands], for Sentinel reflectance x 10000, 0 in all bands of a date = no
                data; only a teacher reads it and sees no Sentinel-2 at all without it.

        Returns:
            float32 [batch, height, width] in [0, 1], NaN where any band of `s1` has no data.
        """


class OtsuPredictor:
    """Otsu's threshold on VH, tile by tile; the probability is 0 or 1.

    Args:
        imagery: what the bands are; says which of them is thresholded.
    """

    model = OTSU
    name = "Otsu"
    inputs = contract.INPUT_S1
    threshold = contract.WATER_THRESHOLD
    dataset = source = ""

    def __init__(self, imagery: contract.Imagery = contract.SENTINEL):
        self.imagery = imagery

    def __call__(self, s1: np.ndarray, s2: np.ndarray | None = None) -> np.ndarray:
        masks = np.stack([otsu.water_mask(tile, self.imagery) for tile in s1])
        return np.where(masks == contract.MASK_NODATA, np.float32(np.nan), masks.astype(np.float32))


class NetworkPredictor:
    """A network behind a function of tensors: a model_dir's best weights, or an exported SavedModel.

    Args:
        model: the path it came from.
        info: its description.
        predict_fn: (s1, s2), float32 -> water_probability, all as `water_probability` says.
    """

    def __init__(
        self, model: str, info: model_info.ModelInfo, predict_fn: Callable[[np.ndarray, np.ndarray], npt.ArrayLike]
    ):
        self.model = model
        self.name = info.name
        self.inputs = info.inputs
        self.threshold = info.threshold
        self.dataset = info.dataset
        self.source = info.source
        self.imagery = info.imagery
        self.info = info
        self._predict_fn = predict_fn

    def __call__(self, s1: np.ndarray, s2: np.ndarray | None = None) -> np.ndarray:
        if s2 is None:
            s2 = np.zeros((*s1.shape[:-1], len(self.imagery.s2_bands)), np.float32)
        return np.asarray(self._predict_fn(s1.astype(np.float32), s2.astype(np.float32)))


def load_predictor(model: str, dataset: str = contract.HAND, engine: str = contract.TENSORFLOW) -> Predictor:
    """Loads what `--model` names.

    Args:
        model: ``otsu``, a model_dir (its best weights), or an exported SavedModel: the folder that holds
            ``saved_model.pb`` or the folder of its versions, of which the highest is taken.
        dataset: whose images Otsu's threshold is to be taken of; networks know their own.
        engine: what runs the network: ``tensorflow``, or ``openvino``, which takes exported SavedModels only.

    Raises:
        UserError: for a path that is none of these, or one that the engine does not take.
    """
    object_store.connect(model)
    saved_model = None if model == OTSU else find_saved_model(epath.Path(model))
    if saved_model:
        return _load_saved_model(model, saved_model, engine)
    if engine != contract.TENSORFLOW:
        raise UserError(f"--engine={engine}: --model={model} is no exported SavedModel; flood_distill.export makes one")
    if model == OTSU:
        return OtsuPredictor(contract.imagery(dataset))
    if (epath.Path(model) / contract.MODEL_JSON).exists():
        return _load_model_dir(model)
    raise UserError(
        f"--model={model}: neither the word otsu, nor a model_dir (no {contract.MODEL_JSON}), nor an exported model "
        f"(no {SAVED_MODEL_FILE}); give the --model_dir of flood_distill.train or the --export_dir of "
        f"flood_distill.export"
    )


def water_mask(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Returns uint8 [...]: 1 where the probability is at least `threshold`, 0 where it is less, 255 where it is NaN."""
    water = (probability >= threshold).astype(np.uint8)
    return np.where(np.isnan(probability), np.uint8(contract.MASK_NODATA), water)


def water_probability(
    logits_fn: Callable[[tf.Tensor], tf.Tensor], info: model_info.ModelInfo, s1: tf.Tensor, s2: tf.Tensor | None
) -> tf.Tensor:
    """Returns the probability of water: the one graph behind evaluation, prediction and export.

    Invalid pixels get the fill value, the image is padded with invalid pixels to k * output_stride + 1 (at least 33),
    and what was padded is cut off again.

    Args:
        logits_fn: a network for inference: image -> logits [batch, height, width, 2].
        info: its description: bands, output stride.
        s1: float32 [batch, height, width, bands], for Sentinel VV and VH in dB, NaN = no data.
        s2: float32 [batch, height, width, bands], for Sentinel reflectance x 10000, 0 in all bands of a date or NaN in
            any = no data; not read by a student.

    Returns:
        float32 [batch, height, width] in [0, 1], NaN where any band of `s1` has no data.
    """
    height, width = tf.unstack(tf.shape(s1)[1:3])
    padded_s1 = _pad(s1, info.output_stride, contract.S1_NODATA)
    padded_s2 = None if s2 is None else _pad(s2, info.output_stride, contract.S2_NODATA)
    image = normalization.network_input(info.inputs, padded_s1, padded_s2, info.imagery)
    logits = tf.cast(logits_fn(image), tf.float32)
    probability = tf.nn.softmax(logits / info.temperature)[:, :height, :width, contract.WATER]
    return tf.where(normalization.s1_valid(s1), probability, tf.constant(np.nan, tf.float32))


def _pad(values: tf.Tensor, output_stride: int, nodata: float) -> tf.Tensor:
    """Pads [batch, height, width, channels] at the bottom and the right with invalid pixels."""
    rows, columns = (
        [0, tf.maximum(sizes.padded_size_px(size_px, output_stride), MIN_SIZE_PX) - size_px]
        for size_px in tf.unstack(tf.shape(values)[1:3])
    )
    return tf.pad(values, [[0, 0], rows, columns, [0, 0]], constant_values=float(nodata))


def check_normalization(info: model_info.ModelInfo, where: str) -> None:
    """Refuses a model that was trained with another normalisation than this version's contract.

    Raises:
        UserError: naming `where` the model lies.
    """
    if info.input_bands != info.imagery.bands(info.inputs) or info.fill_value != contract.FILL_VALUE:
        raise UserError(f"{where}: trained with another normalisation than this version's; use the version it is from")


def _load_model_dir(model: str) -> NetworkPredictor:
    network, info = model_files.load_best(model)
    check_normalization(info, model)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, len(info.imagery.s1_bands)], tf.float32),
            tf.TensorSpec([None, None, None, len(info.imagery.s2_bands)], tf.float32),
        ]
    )
    def predict(s1: tf.Tensor, s2: tf.Tensor) -> tf.Tensor:
        return water_probability(functools.partial(network, training=False), info, s1, s2)

    return NetworkPredictor(model, info, predict)


def find_saved_model(path: epath.Path) -> epath.Path | None:
    """Returns the folder that holds saved_model.pb: `path` itself or its highest version; None if there is none."""
    if (path / SAVED_MODEL_FILE).exists():
        return path
    if not path.is_dir():
        return None
    versions = [child for child in path.iterdir() if child.name.isdigit() and (child / SAVED_MODEL_FILE).exists()]
    return max(versions, key=lambda child: int(child.name), default=None)


def _load_saved_model(model: str, folder: epath.Path, engine: str) -> NetworkPredictor:
    if not (folder / EXTRA_ASSETS_DIR / contract.MODEL_JSON).exists():
        raise UserError(
            f"--model={model}: a SavedModel without {EXTRA_ASSETS_DIR}/{contract.MODEL_JSON}, so not one of ours; "
            f"export it with flood_distill.export"
        )
    info = model_info.read(folder / EXTRA_ASSETS_DIR)
    serve = openvino_engine.load(folder, info) if engine == contract.OPENVINO else serving_function(folder)

    def predict(s1: np.ndarray, s2: np.ndarray) -> npt.ArrayLike:
        inputs = {info.imagery.s1_input: s1}
        if info.inputs == contract.INPUT_S1_S2:
            inputs[info.imagery.s2_input] = s2
        return serve(**inputs)[contract.WATER_PROBABILITY]

    return NetworkPredictor(model, info, predict)


def serving_function(folder: epath.PathLike) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns what a SavedModel serves: inputs by name -> outputs by name, as `contract` names them."""
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures[SERVING_SIGNATURE]

    def serve(**images: npt.ArrayLike) -> dict[str, tf.Tensor]:
        return signature(**{name: tf.constant(image) for name, image in images.items()})

    serve.saved_model = loaded  # a signature holds variables, which older exports have, weakly
    return serve
