"""Files of the world in the layout of the real data: GeoTIFFs, split lists, metadata, the mark of synthetic data."""

import csv
import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points

from data_prep.synthetic import chips, days, world
from flood_distill import contract

SEN1FLOODS11 = "sen1floods11"
EXTERNAL = "external"
SCENES = "scenes"
_EVENTS = f"{SEN1FLOODS11}/v1.1/data/flood_events"
SPLIT_FILES = {
    "train": "flood_train_data.csv",
    "validation": "flood_valid_data.csv",
    "test": "flood_test_data.csv",
    "bolivia": "flood_bolivia_data.csv",
}
SPLITS_DIR = f"{SEN1FLOODS11}/v1.1/splits/flood_handlabeled"
METADATA = f"{SEN1FLOODS11}/v1.1/Sen1Floods11_Metadata.geojson"


def write_chip(root: Path, spec: chips.Spec, chip: chips.Chip) -> None:
    """Writes the files of one chip below `root`."""
    crs, transform = placement(spec)
    for folder, layer, array, nodata in _layers(spec, chip):
        path = root / folder / layer / f"{spec.name}_{layer}.tif"
        _write(path, array, crs, transform, nodata)


def _layers(spec: chips.Spec, chip: chips.Chip) -> list[tuple[str, str, np.ndarray, float | None]]:
    if spec.split == "external":
        return [
            (EXTERNAL, "S1", chip.s1, contract.S1_NODATA),
            (EXTERNAL, "S2", chip.s2, contract.S2_NODATA),
            (EXTERNAL, "NDWILabel", chip.label, None),
        ]
    if spec.split == "weak":
        folder = f"{_EVENTS}/WeaklyLabeled"
        return [
            (folder, "S1Weak", chip.s1, contract.S1_NODATA),
            (folder, "S2Weak", chip.s2, contract.S2_NODATA),
            (folder, "S2IndexLabelWeak", chip.label, None),
        ]
    folder = f"{_EVENTS}/HandLabeled"
    return [
        (folder, "S1Hand", chip.s1, contract.S1_NODATA),
        (folder, "S2Hand", chip.s2, contract.S2_NODATA),
        (folder, "LabelHand", chip.label, None),
        (folder, "JRCWaterHand", chip.permanent, None),
    ]


def placement(spec: chips.Spec) -> tuple[str, Affine]:
    """Returns CRS and transform of a chip: places of an event form a square lattice without overlap."""
    row, column = divmod(spec.number, world.CHIPS_A_ROW)
    if spec.split == "external":
        crs = utm_crs(spec.event)
        (easting,), (northing,) = transform_points("EPSG:4326", crs, [spec.event.longitude], [spec.event.latitude])
        step = contract.PIXEL_SIZE_M
        west = round((easting + column * world.TILE_SPACING_M) / step) * step
        north = round((northing - row * world.TILE_SPACING_M) / step) * step
        return crs, Affine(step, 0.0, west, 0.0, -step, north)
    west = spec.event.longitude + column * world.CHIP_SPACING_DEGREES
    north = spec.event.latitude - row * world.CHIP_SPACING_DEGREES
    step = world.CHIP_PIXEL_DEGREES
    return "EPSG:4326", Affine(step, 0.0, west, 0.0, -step, north)


def utm_crs(event: world.Event) -> str:
    """Returns the EPSG code of an event's UTM zone."""
    zone = int((event.longitude + 180.0) // 6.0) + 1
    return f"EPSG:{(32600 if event.latitude >= 0 else 32700) + zone}"


def write_scene(root: Path, width: int, height: int) -> None:
    """Writes the larger scene and its truth, UTM 10 m."""
    event = world.SCENE_EVENT
    crs = utm_crs(event)
    (easting,), (northing,) = transform_points("EPSG:4326", crs, [event.longitude], [event.latitude])
    step = world.CHIP_PIXEL_M
    transform = Affine(step, 0.0, round(easting, -1), 0.0, -step, round(northing, -1))
    s1, water = chips.make_scene((height, width))
    _write(root / SCENES / f"{event.name}_scene_S1.tif", s1, crs, transform, contract.S1_NODATA)
    _write(root / SCENES / f"{event.name}_scene_water.tif", water, crs, transform, contract.MASK_NODATA)


def _write(path: Path, array: np.ndarray, crs: str, transform: Affine, nodata: float | None) -> None:
    bands = array if array.ndim == 3 else array[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "dtype": bands.dtype,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "crs": crs,
        "transform": transform,
        "nodata": nodata,
        "compress": "deflate",
        "zlevel": 1,
        "interleave": "band",
        "blockysize": bands.shape[1],
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(bands)
        if bands.dtype == np.float32:
            target.descriptions = tuple(band.name for band in contract.S1_BANDS)


def marker(sizes: chips.Sizes, scene_px: tuple[int, int]) -> dict:
    """Returns what `SYNTHETIC.json` says."""
    return {
        "source": contract.SOURCE_SYNTHETIC,
        "world": "data_prep/synthetic/world.py",
        "world_version": world.WORLD_VERSION,
        "seed": world.SEED,
        "sizes": dict(vars(sizes)),
        "scene_px": list(scene_px),
        "note": "Made by data_prep.synthesize; not satellite data. Scores on it say nothing about real floods.",
    }


def write_lists(root: Path, specs: list[chips.Spec], sizes: chips.Sizes, scene_px: tuple[int, int]) -> None:
    """Writes split lists, metadata and the marks of synthetic data."""
    for split, name in SPLIT_FILES.items():
        rows = [f"{s.name}_S1Hand.tif,{s.name}_LabelHand.tif\r\n" for s in specs if s.split == split]
        _write_text(root / SPLITS_DIR / name, "".join(rows))
    _write_metadata(root, [s for s in specs if s.split != "external"])
    _write_external_table(root, [s for s in specs if s.split == "external"])
    note = json.dumps(marker(sizes, scene_px), indent=2) + "\n"
    for folder in (".", SEN1FLOODS11, EXTERNAL, SCENES):
        _write_text(root / folder / contract.SYNTHETIC_MARKER, note)


def _write_metadata(root: Path, specs: list[chips.Spec]) -> None:
    features = []
    for number, event in enumerate(dict.fromkeys(s.event for s in specs), start=1):
        own = [s for s in specs if s.event == event]
        places = [placement(s)[1] for s in own]
        width = world.CHIP_SIZE_PX * world.CHIP_PIXEL_DEGREES
        west, east = min(p.c for p in places), max(p.c for p in places) + width
        south, north = min(p.f for p in places) - width, max(p.f for p in places)
        ring = [[west, south], [west, north], [east, north], [east, south], [west, south]]
        properties = {
            "ID": number,
            "location": event.name,
            "orbit": "ASCENDING" if days.draw(event).looks_east else "DESCENDING",
            "train_chip": sum(s.split == "weak" for s in own),
            "val_chip": sum(s.split != "weak" for s in own),
            "source": contract.SOURCE_SYNTHETIC,
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    collection = {"type": "FeatureCollection", "name": "Sen1Floods11_Metadata", "features": features}
    _write_text(root / METADATA, json.dumps(collection, indent=1) + "\n")


def _write_external_table(root: Path, specs: list[chips.Spec]) -> None:
    path = root / EXTERNAL / "metadata.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["tile", "event", "country", "crs", "west", "north", "orbit", "s1_s2_gap_hours", "source"])
        for spec in specs:
            crs, transform = placement(spec)
            orbit = "ASCENDING" if days.draw(spec.event).looks_east else "DESCENDING"
            country = spec.event.name.rsplit("-", 1)[0]
            writer.writerow([spec.name, spec.event.name, country, crs, transform.c, transform.f, orbit, 0, "synthetic"])


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
