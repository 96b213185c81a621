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


S1_BANDS = (Band("VV", -20.0, 0.0, "dB"), Band("VH", -30.0, 0.0, "dB"))  # appendix A
S2_BANDS = tuple(Band(name, 0.0, 3000.0, "reflectance x 10000") for name in ("B2", "B3", "B4", "B8"))  # 2.1, A
S2_FILE_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
# 1-based raster indices of the model's bands in a 13-band Sentinel-2 file.
S2_FILE_INDICES = tuple(S2_FILE_BANDS.index(band.name) + 1 for band in S2_BANDS)

# --- Record features (TFDS) ------------------------------------------------------------------------------------------
S1 = "s1"  # float32 [H, W, 2], dB, NaN = no data
S2 = "s2"  # int16 [H, W, 4], top-of-atmosphere reflectance x 10000, 0 in all bands = no data
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
INPUT_BANDS = {INPUT_S1: S1_BANDS, INPUT_S1_S2: S1_BANDS + S2_BANDS}

# --- Batches ---------------------------------------------------------------------------------------------------------
IMAGE = "image"  # float32 [batch, height, width, channels] in [0, 1], FILL_VALUE where invalid
TEACHER_IMAGE = "teacher_image"  # the same for the teacher, in distillation batches
VALID = "valid"  # bool [batch, height, width]: pixel counts in the distillation loss
# Only where the teacher sees the clean tile: row and column of the tile that each pixel of the student's crop reads.
TEACHER_ROWS = "teacher_rows"  # float32 [batch, crop]
TEACHER_COLUMNS = "teacher_columns"  # float32 [batch, crop]
# LABEL in a batch: int32 [batch, height, width], IGNORE_LABEL where it must not count. CHIP_ID: string [batch].

# --- SavedModel signatures -------------------------------------------------------------------------------------------
BACKSCATTER_DB = "backscatter_db"  # float32 [batch, height, width, 2], NaN = no data
REFLECTANCE = "reflectance"  # float32 [batch, height, width, 4], x 10000, 0 in all bands = no data
WATER_PROBABILITY = "water_probability"  # float32 [batch, height, width], NaN = no data
WATER_MASK = "water_mask"  # uint8 [batch, height, width], 0, 1, MASK_NODATA
WATER_THRESHOLD = 0.5

# --- Training strategies, by name ------------------------------------------------------------------------------------
STRATEGIES = ("auto", "cpu", "mirrored", "multi_worker", "tpu")

# --- Files of a model_dir --------------------------------------------------------------------------------------------
MODEL_JSON = "model.json"
CHECKPOINTS_DIR = "checkpoints"
BEST_DIR = "best"
CONFIG_GIN = "config.gin"
OPERATIVE_CONFIG_GIN = "operative_config.gin"
TRAINING_CSV = "training.csv"
TENSORBOARD_DIR = "tensorboard"


def input_bands(inputs: str) -> tuple[Band, ...]:
    """Returns the bands of a network input, in channel order.

    Args:
        inputs: ``s1`` or ``s1+s2``.

    Raises:
        ValueError: for any other word.
    """
    if inputs not in INPUT_BANDS:
        raise ValueError(f"inputs={inputs!r} is not one of {sorted(INPUT_BANDS)}")
    return INPUT_BANDS[inputs]
