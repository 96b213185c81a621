"""A STAC item of a scene's maps, so that a catalogue can take them in (https://stacspec.org)."""

import datetime
import re
from collections.abc import Mapping

import pystac
import shapely
import shapely.geometry
from pystac.extensions.projection import ProjectionExtension

import flood_distill
from flood_distill import contract
from flood_distill.geo import polygons
from flood_distill.geo.grid import Grid
from flood_distill.scene_maps import LAYERS

# Sentinel-1 products carry the start of the acquisition in their name: S1A_IW_GRDH_1SDV_20180924T061132_...
_ACQUIRED = re.compile(r"(?<!\d)(\d{8}T\d{6})(?!\d)", re.I)
_FOOTPRINT_TOLERANCE_DEG = 1e-4  # 11 m


def item(
    stem: str, grid: Grid, provenance: Mapping, outputs: Mapping[str, str], tags: Mapping[str, str]
) -> pystac.Item:
    """Returns the item; its links to the maps are relative to its own file.

    Args:
        stem: of the scene: the item's id.
        grid: of the maps.
        provenance: what the scene's JSON file says of model, input and areas.
        outputs: file name by ending.
        tags: of the input raster, which may say when it was taken.
    """
    footprint = polygons.outline_lonlat(grid).simplify(_FOOTPRINT_TOLERANCE_DEG)
    acquired, from_input = _acquired(stem, tags, provenance["created"])
    result = pystac.Item(
        id=stem,
        geometry=shapely.geometry.mapping(footprint),
        bbox=_bbox(footprint),
        datetime=acquired,
        properties={
            "title": f"Flood map of {stem}",
            "description": f"Water in a {provenance['source']} Sentinel-1 scene by {provenance['model_name']}, trained "
            f"on {provenance['model_source']} data"
            + ("" if from_input else "; the input does not tell when it was taken: datetime is that of processing"),
            "created": provenance["created"],
            "flood_distill:version": flood_distill.__version__,
            "flood_distill:threshold": provenance["threshold"],
            "flood_distill:area_km2": provenance["area_km2"],
        },
    )
    for ending, name in outputs.items():
        result.add_asset(*_asset(ending, name))
    projection = ProjectionExtension.ext(result, add_if_missing=True)
    code = grid.crs if grid.crs.startswith("EPSG:") else None
    projection.apply(
        code=code, wkt2=None if code else grid.crs, shape=list(grid.shape), transform=[*grid.transform, 0.0, 0.0, 1.0]
    )
    return result


def _asset(ending: str, name: str) -> tuple[str, pystac.Asset]:
    key = ending.strip("_").rsplit(".", 1)[0]
    for layer in LAYERS:
        if layer.ending == ending:
            fields = {"nodata": contract.MASK_NODATA, "data_type": "uint8"}
            asset = pystac.Asset(
                f"./{name}", layer.title, layer.description, pystac.MediaType.COG, ["data"], extra_fields=fields
            )
            return key, asset
    media, role = {
        ".geojson": (pystac.MediaType.GEOJSON, "data"),
        ".png": (pystac.MediaType.PNG, "overview"),
        ".json": (pystac.MediaType.JSON, "metadata"),
    }[name[name.rindex(".") :]]
    kind = {".geojson": "polygons", ".png": "preview", ".json": "provenance"}[name[name.rindex(".") :]]
    return f"{key}_{kind}" if key and kind == "polygons" else kind, pystac.Asset(
        f"./{name}", media_type=media, roles=[role]
    )


def _acquired(stem: str, tags: Mapping[str, str], created: str) -> tuple[datetime.datetime, bool]:
    """Returns when the scene was taken by its name or its tags, else when it was processed; and whether it is known."""
    for text in (stem, *(tags.get(name, "") for name in ("ACQUISITION_DATETIME", "TIFFTAG_DATETIME"))):
        digits = _ACQUIRED.search(
            re.sub(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", r"\1\2\3T\4\5\6", text)
        )
        if digits:
            try:
                found = datetime.datetime.strptime(digits[1].upper(), "%Y%m%dT%H%M%S")
            except ValueError:
                continue
            return found.replace(tzinfo=datetime.UTC), True
    return datetime.datetime.fromisoformat(created), False


def _bbox(footprint: shapely.Geometry) -> list[float]:
    """Returns west, south, east and north; across the antimeridian west is greater than east (RFC 7946, 5.2)."""
    west, south, east, north = footprint.bounds
    if footprint.geom_type == "MultiPolygon":
        west = min(part.bounds[0] for part in footprint.geoms if part.bounds[2] == 180)
        east = max(part.bounds[2] for part in footprint.geoms if part.bounds[0] == -180)
    return [west, south, east, north]
