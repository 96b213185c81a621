"""What Earth Engine is asked to compute, written with its own client library.

Needs ``earthengine-api``, initialised (see `client`).
"""

import datetime
from collections.abc import Sequence

import ee
import shapely
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from data_prep.earth_engine_curation import ndwi
from data_prep.earth_engine_curation.settings import OVER_TILE, Settings

SCENE = "scene"  # property of a listed feature: the image's name in its collection
TIME = "system:time_start"  # milliseconds since 1970, UTC
S1_PROPERTIES = (TIME, "platform_number", "orbitNumber_start", "orbitProperties_pass")
S2_PROPERTIES = (TIME, "DATATAKE_IDENTIFIER", "CLOUDY_PIXEL_PERCENTAGE")
# Resampling may give a mask between 0 and 1 at the edge of the data; such a pixel is partly made of no-data.
_WHOLLY_VALID = 0.999


def s1_listing(settings: Settings, area: BaseGeometry, start: datetime.datetime, end: datetime.datetime):
    """Returns the features (footprint, `S1_PROPERTIES`, `SCENE`) of IW images with VV and VH, end excluded."""
    images = _within(settings.s1_collection, area, start, end).filter(ee.Filter.eq("instrumentMode", "IW"))
    for name in ndwi.S1_NAMES:
        images = images.filter(ee.Filter.listContains("transmitterReceiverPolarisation", name))
    return _footprints(images, S1_PROPERTIES)


def s2_listing(settings: Settings, area: BaseGeometry, start: datetime.datetime, end: datetime.datetime):
    """Returns the features (footprint, `S2_PROPERTIES`, `SCENE`) of Sentinel-2 images, cloudy or not, end excluded."""
    return _footprints(_within(settings.s2_collection, area, start, end), S2_PROPERTIES)


def tile(settings: Settings, s1_ids: Sequence[str], s2_ids: Sequence[str]):
    """Returns the image of a tile, all bands float, with the bands `band_names` gives.

    Each image is resampled bilinearly in the unit it is stored in, before it is laid over the others: computePixels
    takes the nearest pixel otherwise, and a mosaic has no projection of its own to resample in. No-data is explicit:
    the value `ndwi.SERVED_NODATA` and a mask band.
    """
    s1 = _mosaic(s1_ids, ndwi.S1_NAMES)
    s2 = _mosaic(s2_ids, ndwi.S2_NAMES)
    layers = [_filled(s1), _filled(s2), _mask(s1, ndwi.S1_VALID), _mask(s2, ndwi.S2_VALID)]
    if settings.cloud_over == OVER_TILE:
        layers.append(_clear(settings, s2_ids))
    return ee.Image.cat(layers).toFloat()


def band_names(settings: Settings) -> list[str]:
    """Returns the names of the bands of `tile`, in order."""
    return [*ndwi.SERVED_NAMES, *([ndwi.CLEAR] if settings.cloud_over == OVER_TILE else [])]


def _within(collection: str, area: BaseGeometry, start: datetime.datetime, end: datetime.datetime):
    geometry = ee.Geometry(shapely.geometry.mapping(shapely.force_2d(area)), geodesic=False)
    first, last = (int(time.timestamp() * 1000) for time in (start, end))
    return ee.ImageCollection(collection).filterDate(first, last).filterBounds(geometry)


def _footprints(images, properties: Sequence[str]):
    def footprint(image):
        feature = ee.Feature(image.geometry()).copyProperties(image, list(properties))
        return ee.Feature(feature).set(SCENE, image.get("system:index"))

    return ee.FeatureCollection(images.map(footprint))


def _mosaic(scene_ids: Sequence[str], names: Sequence[str]):
    images = [ee.Image(scene_id).select(list(names)).resample("bilinear") for scene_id in scene_ids]
    return ee.ImageCollection([_only_whole(image) for image in images]).mosaic()


def _only_whole(image):
    return image.updateMask(image.mask().reduce(ee.Reducer.min()).gte(_WHOLLY_VALID))


def _filled(image):
    return image.unmask(ndwi.SERVED_NODATA, False)  # False: beyond the image's footprint too


def _mask(image, name: str):
    return image.mask().reduce(ee.Reducer.min()).unmask(0, False).rename(name)


def _clear(settings: Settings, s2_ids: Sequence[str]):
    ids = [f"{settings.cloud_collection}/{scene_id.rsplit('/', 1)[1]}" for scene_id in s2_ids]
    scores = [ee.Image(scene_id).select([settings.cloud_band]) for scene_id in ids]
    clear = ee.ImageCollection(scores).mosaic().gte(settings.clear_score)
    return clear.unmask(0, False).rename(ndwi.CLEAR)
