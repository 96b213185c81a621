"""The numbers of the curation; their values, with their sources, are in ``gin_configs/earth_engine.gin``."""

import dataclasses

import gin

from flood_distill.errors import UserError

OVER_IMAGE = "image"
OVER_TILE = "tile"
# Earth Engine's quotas of a project, https://developers.google.com/earth-engine/guides/usage
QUOTA_PARALLEL = 40
QUOTA_REQUESTS_PER_MINUTE = 6000


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides which tiles are made and what is in them.

    Attributes:
        s1_collection: Sentinel-1 GRD, dB.
        s2_collection: Sentinel-2 top-of-atmosphere reflectance x 10000, one offset for all years.
        max_gap_hours: largest time between a tile's Sentinel-1 and Sentinel-2 images.
        max_cloud_percent: cloud cover must be less than this.
        cloud_over: ``image`` (the share that the image's metadata states) or ``tile`` (measured on the tile's pixels).
        cloud_collection: for ``tile``: images of clear-sky scores with the ids of `s2_collection`.
        cloud_band: for ``tile``: the band, 0 (cloud) to 1 (clear).
        clear_score: for ``tile``: a pixel below it is cloud.
        ndwi_threshold: a pixel is water where its NDWI is greater.
        min_valid_share: a tile with a smaller share of pixels that both sensors see is left out.
    """

    s1_collection: str
    s2_collection: str
    max_gap_hours: float
    max_cloud_percent: float
    cloud_over: str
    cloud_collection: str
    cloud_band: str
    clear_score: float
    ndwi_threshold: float
    min_valid_share: float


@dataclasses.dataclass(frozen=True)
class Traffic:
    """How Earth Engine is asked; changes nothing in the tiles.

    Attributes:
        num_parallel: requests under way at a time.
        requests_per_minute: requests started in a minute.
        timeout_seconds: longest wait for one answer.
        first_wait_seconds: wait before a request is repeated; doubles with every further failure, with jitter.
        longest_wait_seconds: the doubling ends here.
        attempts: a request that has failed so often is given up.
        max_failures: the run ends when so many tiles have failed.
    """

    num_parallel: int
    requests_per_minute: int
    timeout_seconds: float
    attempts: int
    first_wait_seconds: float
    longest_wait_seconds: float
    max_failures: int


@gin.configurable
def external_dataset(
    s1_collection: str = gin.REQUIRED,
    s2_collection: str = gin.REQUIRED,
    max_gap_hours: float = gin.REQUIRED,
    max_cloud_percent: float = gin.REQUIRED,
    cloud_over: str = gin.REQUIRED,
    cloud_collection: str = gin.REQUIRED,
    cloud_band: str = gin.REQUIRED,
    clear_score: float = gin.REQUIRED,
    ndwi_threshold: float = gin.REQUIRED,
    min_valid_share: float = gin.REQUIRED,
) -> Settings:
    """Returns the settings that gin gives; see `Settings`.

    Raises:
        UserError: for a value that makes no sense.
    """
    settings = Settings(**locals())
    _check("external_dataset.max_gap_hours", max_gap_hours, max_gap_hours >= 0, "a number of hours")
    _check("external_dataset.max_cloud_percent", max_cloud_percent, max_cloud_percent > 0, "more than 0")
    _check("external_dataset.cloud_over", cloud_over, cloud_over in (OVER_IMAGE, OVER_TILE), "'image' or 'tile'")
    _check("external_dataset.ndwi_threshold", ndwi_threshold, -1 <= ndwi_threshold <= 1, "in [-1, 1]")
    _check("external_dataset.min_valid_share", min_valid_share, 0 <= min_valid_share <= 1, "in [0, 1]")
    return settings


@gin.configurable
def earth_engine_traffic(
    num_parallel: int = gin.REQUIRED,
    requests_per_minute: int = gin.REQUIRED,
    timeout_seconds: float = gin.REQUIRED,
    first_wait_seconds: float = gin.REQUIRED,
    longest_wait_seconds: float = gin.REQUIRED,
    attempts: int = gin.REQUIRED,
    max_failures: int = gin.REQUIRED,
) -> Traffic:
    """Returns the settings that gin gives; see `Traffic`.

    Raises:
        UserError: for a value beyond Earth Engine's quotas.
    """
    traffic = Traffic(**locals())
    _check("earth_engine_traffic.num_parallel", num_parallel, 1 <= num_parallel <= QUOTA_PARALLEL, "1 to 40, the quota")
    allowed = 1 <= requests_per_minute <= QUOTA_REQUESTS_PER_MINUTE
    _check("earth_engine_traffic.requests_per_minute", requests_per_minute, allowed, "1 to 6000, the quota")
    return traffic


def _check(name: str, value: object, good: bool, range_: str) -> None:
    if not good:
        raise UserError(f"{name} = {value!r}: must be {range_}")
