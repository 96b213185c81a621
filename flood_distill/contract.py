"""Names, units, dtypes and tables that every room of the package shares.

What is written here is the contract between conversion, training, evaluation, export and prediction. No other
module repeats a key, a band limit or a no-data value. Sections refer to Garg et al., *Cross Modal Distillation for
Flood Extent Mapping*.
"""

import dataclasses

import numpy as np

# --- Classes and no-data values --------------------------------------------------------------------------------------
DRY = 0
WATER = 1
NUM_CLASSES = 2  # section 3: K = 2, dry and wet
IGNORE_LABEL = -1  # Sen1Floods11: no data or cloud under the hand label
S1_NODATA = float("nan")
S2_NODATA = 0  # a pixel is no-data where all model bands are 0
MASK_NODATA = 255  # in written masks and percentages (uint8)
PERCENT_MAX = 100

# --- Geometry --------------------------------------------------------------------------------------------------------
PIXEL_SIZE_M = 16.0  # section 2.2
TILE_SIZE_PX = 320  # section 2.2: 512 px x 10 m = 320 px x 16 m

# --- Normalisation ---------------------------------------------------------------------------------------------------
# Value given to invalid pixels after normalisation. Zero would be -20 dB, which looks like water.
FILL_VALUE = 0.5
IMAGE_RANGE = (0.0, 1.0)  # of every normalised image; a network of other range scales at its own entrance


@dataclasses.dataclass(frozen=True)
class Band:
    """One input band: values are clipped to [low, high] and scaled linearly to [0, 1] (appendix A).

    Attributes:
        name: the band's name in the literature, such as ``VV`` or ``B8``.
        low: value that becomes 0, in `unit`.
        high: value that becomes 1, in `unit`.
        unit: ``dB``, ``reflectance x 10000`` or ``count``.
    """

    name: str
    low: float
    high: float
    unit: str


# Sentinel-1 and Sentinel-2 in physical units: Sen1Floods11, the External Dataset, scenes.
S1_BANDS = (Band("VV", -20.0, 0.0, "dB"), Band("VH", -30.0, 0.0, "dB"))  # appendix A
S2_BANDS = tuple(Band(name, 0.0, 3000.0, "reflectance x 10000") for name in ("B2", "B3", "B4", "B8"))  # 2.1, A
S2_FILE_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
# 1-based raster indices of the model's bands in a 13-band Sentinel-2 file.
S2_FILE_INDICES = tuple(S2_FILE_BANDS.index(band.name) + 1 for band in S2_BANDS)

# --- Record features (TFDS) ------------------------------------------------------------------------------------------
# Bands and units of the images: `imagery` of the dataset.
S1 = "s1"  # float32 [H, W, bands], NaN = no data
S2 = "s2"  # int16 [H, W, bands], 0 in all bands = no data
S1_BEFORE = "s1_before"  # as s1, an image from before the flood; only where a config has both dates
S2_BEFORE = "s2_before"  # as s2
LABEL = "label"  # int8 [H, W], 1 water, 0 dry, -1 no data
PERMANENT_WATER = "permanent_water"  # int8 [H, W], as label
HAS_S2 = "has_s2"
HAS_PERMANENT_WATER = "has_permanent_water"
CHIP_ID = "chip_id"
EVENT = "event"
SOURCE = "source"
CRS = "crs"
TRANSFORM = "transform"  # float64 [6], affine order a b c d e f

S1_DTYPE = np.float32
S2_DTYPE = np.int16
LABEL_DTYPE = np.int8

SOURCE_REAL = "real"
SOURCE_SYNTHETIC = "synthetic"
SYNTHETIC_MARKER = "SYNTHETIC.json"  # file that marks a folder of tiles as synthetic

# --- Datasets and splits ---------------------------------------------------------------------------------------------
HAND = "sen1floods11/hand"
WEAK = "sen1floods11/weak"
EXTERNAL = "external/events"
OMBRIA_AFTER = "ombria/after"
OMBRIA_BEFORE_AFTER = "ombria/before_after"
HAND_LABELED = (HAND, OMBRIA_AFTER, OMBRIA_BEFORE_AFTER)  # the labels of all others are weak
OMBRIA_AFTER_WEAK = "ombria/after_weak"  # the training tuples of the two, labelled by an index of Sentinel-2
OMBRIA_BEFORE_AFTER_WEAK = "ombria/before_after_weak"
TRAIN_SPLIT = "train"
VALIDATION_SPLIT = "validation"
TEST_SPLIT = "test"
BOLIVIA_SPLIT = "bolivia"

# --- Files and metadata of a converted dataset -----------------------------------------------------------------------
SHARD_HASHES_JSON = "shards.json"  # SHA-256 of every shard, by file name, inside the dataset's folder
# Keys of the dataset's metadata (TFDS metadata.json), beside SOURCE.
NUM_WITH_S2 = "num_with_s2"  # by split
OUTSIDE_SHARE = "outside_share"  # by split: mean share of tile pixels outside the source
CUT_SHARE = "cut_share"  # by split: mean share of source pixels outside the tile
FOOTPRINTS = "footprints"  # by split and chip: west, south, east, north in degrees (hand labels only)
LEFT_OUT = "left_out"  # one line a fault
EXCLUDED = "excluded"  # chips kept out of training, by reason
EXCLUSION_UNKNOWN = "exclusion_unknown"  # evaluation chips whose footprint could not be compared

# --- What a network looks at -----------------------------------------------------------------------------------------
INPUT_S1 = "s1"  # the student: VV, VH
INPUT_S1_S2 = "s1+s2"  # the teacher: VV, VH, B2, B3, B4, B8 (section 3.2, stacked)
INPUT_S2 = "s2"  # a teacher for comparison: B2, B3, B4, B8
INPUTS = (INPUT_S1, INPUT_S1_S2, INPUT_S2)
TEACHER_INPUTS = (INPUT_S1_S2, INPUT_S2)  # need Sentinel-2

# --- Batches ---------------------------------------------------------------------------------------------------------
# In what `records.stacked` gives, S1 and S2 hold the bands of all dates, those of the latest first.
IMAGE = "image"  # float32 [batch, height, width, channels] in [0, 1], FILL_VALUE where invalid
TEACHER_IMAGE = "teacher_image"  # the same for the teacher, in distillation batches
VALID = "valid"  # bool [batch, height, width]: pixel counts in the distillation loss
# Only where the teacher sees the clean tile: row and column of the tile that each pixel of the student's crop reads.
TEACHER_ROWS = "teacher_rows"  # float32 [batch, crop]
TEACHER_COLUMNS = "teacher_columns"  # float32 [batch, crop]
# Only where labels count beside the distillation: how much a labelled pixel of the example does (float32 [batch]).
LABEL_WEIGHT = "label_weight"
DATASET_INDEX = "dataset_index"  # int32 [batch], where training mixes datasets: number of the one it is from
# LABEL in a batch: int32 [batch, height, width], IGNORE_LABEL where it must not count. CHIP_ID: string [batch].
DATASET = "dataset"  # string [batch]: NAME/CONFIG that the example comes from

# --- SavedModel signatures -------------------------------------------------------------------------------------------
# Inputs are named by their unit; float32 [batch, height, width, bands].
BACKSCATTER_DB = "backscatter_db"  # VV, VH; NaN = no data
REFLECTANCE = "reflectance"  # B2, B3, B4, B8, x 10000, 0 in all bands = no data
BACKSCATTER_SCALED = "backscatter_scaled"  # OMBRIA: 0..255, NaN = no data
COLOR_SCALED = "color_scaled"  # OMBRIA: 0..255, 0 in all bands = no data
WATER_PROBABILITY = "water_probability"  # float32 [batch, height, width], NaN = no data
WATER_MASK = "water_mask"  # uint8 [batch, height, width], 0, 1, MASK_NODATA
WATER_THRESHOLD = 0.5

# --- Parts of a pretrained checkpoint, by name -----------------------------------------------------------------------
PRETRAINED_WHOLE = "whole"  # all that the network has too
PRETRAINED_ENCODER = "encoder"  # the backbone only
PRETRAINED_PARTS = (PRETRAINED_WHOLE, PRETRAINED_ENCODER)

# --- Inference, by name ----------------------------------------------------------------------------------------------
FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)  # of the network inside an export; what goes in and comes out is float32
MIXED_BFLOAT16 = "mixed_bfloat16"
MIXED_FLOAT16 = "mixed_float16"
TRAINING_PRECISIONS = (FLOAT32, MIXED_BFLOAT16, MIXED_FLOAT16)  # Keras's names; weights, logits and loss are float32
TENSORFLOW = "tensorflow"
OPENVINO = "openvino"
ENGINES = (TENSORFLOW, OPENVINO)  # what runs an exported SavedModel
SAVED_MODEL = "saved_model"
ONNX = "onnx"
EXPORT_FORMATS = (SAVED_MODEL, ONNX)

# --- Training strategies, by name ------------------------------------------------------------------------------------
STRATEGIES = ("auto", "cpu", "mirrored", "multi_worker", "tpu")

# --- Files of a model_dir --------------------------------------------------------------------------------------------
MODEL_JSON = "model.json"
LOCK_FILE = "lock"  # held by the process that trains there
CHECKPOINTS_DIR = "checkpoints"
BEST_DIR = "best"
CONFIG_GIN = "config.gin"
OPERATIVE_CONFIG_GIN = "operative_config.gin"
TRAINING_CSV = "training.csv"
TENSORBOARD_DIR = "tensorboard"
EXAMPLES_PNG = "examples.png"  # the latest maps of a few validation chips
BAD_BATCH_JSON = "bad_batch.json"  # what a run stopped at that met NaN or infinity


# --- Imagery of each dataset -----------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Imagery:
    """What the images of a dataset hold. Networks go with one imagery: datasets of different ones do not mix.

    Attributes:
        s1: bands of one Sentinel-1 image, in channel order.
        s2: bands of one Sentinel-2 image, in channel order.
        tile_size_px: height and width of a tile.
        s1_input: name of a SavedModel's Sentinel-1 input.
        s2_input: name of a SavedModel's Sentinel-2 input.
        rgb: the bands of `s2` that are drawn as red, green and blue.
        otsu_band: the band of `s1` that Otsu's threshold is taken of; water is dark in it.
        has_before: records hold an image from before the flood too.
        target: what label 1 means.
    """

    s1: tuple[Band, ...]
    s2: tuple[Band, ...]
    tile_size_px: int
    s1_input: str
    s2_input: str
    rgb: tuple[str, str, str]
    otsu_band: str
    has_before: bool = False
    target: str = "water"

    @property
    def dates(self) -> dict[str, tuple[str, ...]]:
        """The record features that are stacked to `S1` and `S2`, latest first."""
        before = self.has_before
        return {S1: (S1, S1_BEFORE)[: 1 + before], S2: (S2, S2_BEFORE)[: 1 + before]}

    @property
    def feature_bands(self) -> dict[str, tuple[Band, ...]]:
        """The bands of each image feature of a record."""
        bands = {S1: self.s1, S2: self.s2}
        return {feature: bands[modality] for modality, features in self.dates.items() for feature in features}

    @property
    def s1_bands(self) -> tuple[Band, ...]:
        """The bands of the stacked dates of Sentinel-1."""
        return self._stacked(self.s1)

    @property
    def s2_bands(self) -> tuple[Band, ...]:
        """The bands of the stacked dates of Sentinel-2."""
        return self._stacked(self.s2)

    def bands(self, inputs: str) -> tuple[Band, ...]:
        """Returns the bands of a network input, in channel order.

        Args:
            inputs: ``s1``, ``s1+s2`` or ``s2``.

        Raises:
            ValueError: for any other word.
        """
        if inputs not in INPUTS:
            raise ValueError(f"inputs={inputs!r} is not one of {sorted(INPUTS)}")
        return self.s1_bands * (inputs != INPUT_S2) + self.s2_bands * (inputs != INPUT_S1)

    def _stacked(self, bands: tuple[Band, ...]) -> tuple[Band, ...]:
        before = tuple(dataclasses.replace(band, name=f"{band.name} before") for band in bands)
        return bands + before * self.has_before


SENTINEL = Imagery(
    S1_BANDS, S2_BANDS, TILE_SIZE_PX, BACKSCATTER_DB, REFLECTANCE, rgb=("B4", "B3", "B2"), otsu_band="VH"
)
# OMBRIA's PNGs: 8 bits, scaled by the publisher in a way that is not documented. Its optical images look like these
# three bands in this order (not documented either).
OMBRIA = Imagery(
    (Band("backscatter", 0.0, 255.0, "count"),),
    tuple(Band(name, 0.0, 255.0, "count") for name in ("SWIR", "NIR", "visible")),
    256,
    BACKSCATTER_SCALED,
    COLOR_SCALED,
    rgb=("SWIR", "NIR", "visible"),
    otsu_band="backscatter",
    target="flood",
)
_OMBRIA_BOTH_DATES = dataclasses.replace(OMBRIA, has_before=True)
IMAGERY = {
    HAND: SENTINEL,
    WEAK: SENTINEL,
    EXTERNAL: SENTINEL,
    OMBRIA_AFTER: OMBRIA,
    OMBRIA_BEFORE_AFTER: _OMBRIA_BOTH_DATES,
    OMBRIA_AFTER_WEAK: OMBRIA,
    OMBRIA_BEFORE_AFTER_WEAK: _OMBRIA_BOTH_DATES,
}


def imagery(dataset: str) -> Imagery:
    """Returns what the images of ``NAME/CONFIG`` hold.

    Raises:
        ValueError: for a dataset that `IMAGERY` does not list.
    """
    if dataset not in IMAGERY:
        raise ValueError(f"dataset {dataset!r} is not one of {', '.join(IMAGERY)}; contract.IMAGERY has to list it")
    return IMAGERY[dataset]
