"""Flood maps of Sentinel-1 scenes of any size and crs, by overlapping windows.

Memory does not grow with a scene's height: three times one row of windows (window_px x scene width float32), one batch
through the network and GDAL's block cache. The polygons are the exception: GDAL traces the mask of the whole scene.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import gin
import numpy as np
import rasterio.errors
from rasterio._err import CPLE_BaseError
from tqdm import tqdm

from flood_distill import contract, object_store, scene_preview
from flood_distill.errors import UserError
from flood_distill.geo import cog, polygons, raster, windows
from flood_distill.geo import grid as grid_lib
from flood_distill.predictor import OTSU, Predictor
from flood_distill.probability import water_mask
from flood_distill.scene_reader import SceneReader, read_reference

# Endings of the files of a scene, after the input's stem.
WATER = "_water.tif"
PROBABILITY = "_probability.tif"
FLOOD = "_flood.tif"
POLYGONS = "_water.geojson"
PREVIEW = "_preview.png"
PROVENANCE = ".json"

REFERENCE_WATER = 2  # class of the flood map: water both in the scene and in the reference
# Red, green, blue, alpha.
WATER_COLORS = {
    contract.DRY: (214, 205, 180, 255),
    contract.WATER: (31, 90, 217, 255),
    contract.MASK_NODATA: (0, 0, 0, 0),
}
FLOOD_COLORS = {**WATER_COLORS, REFERENCE_WATER: (150, 190, 240, 255)}
_FAILURES = (UserError, rasterio.errors.RasterioError, CPLE_BaseError, OSError)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How scenes are predicted.

    Attributes:
        window_px: side of a window.
        overlap_px: pixels that neighbouring windows share at least.
        batch_size: windows that go through the network at once.
        reference_water: raster of known water, or empty.
    """

    window_px: int
    overlap_px: int
    batch_size: int
    reference_water: str = ""


@gin.configurable
def predict_scenes(
    predictor: Predictor,
    inputs: Sequence[str],
    output_dir: str | Path,
    *,
    reference_water: str = "",
    overwrite: bool = False,
    window_px: int = 321,
    overlap_px: int = 64,
    batch_size: int = 4,
) -> list[str]:
    """Writes the flood maps of scenes; one that fails does not stop the others.

    Args:
        predictor: a student; a teacher needs Sentinel-2, and Otsu's threshold is one of a tile.
        inputs: GeoTIFFs with VV and VH in dB, of any size and crs.
        output_dir: folder for what comes out, named after each input's stem.
        reference_water: raster of known water (1 water, 0 not, anything else unknown), any crs; adds <stem>_flood.tif.
        overwrite: make scenes again that are done; they are skipped otherwise.
        window_px: side of a window; 321 is what the network was trained on.
        overlap_px: pixels that neighbouring windows share at least.
        batch_size: windows that go through the network at once.

    Returns:
        One line for each scene that failed: which and why.

    Raises:
        UserError: before any work, for a predictor that cannot do scenes, two inputs of one stem or impossible sizes.
    """
    object_store.local_only("--output_dir", output_dir)
    settings = Settings(window_px, overlap_px, batch_size, reference_water)
    _check(predictor, inputs, settings)
    failures = []
    for path in inputs:
        stem, folder = Path(path).stem, Path(output_dir)
        if not overwrite and is_done(folder, stem):
            tqdm.write(f"{path}: already done ({folder / stem}{PROVENANCE} is there); --overwrite makes it again")
            continue
        try:
            predict_scene(predictor, path, folder, settings)
        except _FAILURES as error:
            message = " ".join(str(error).split())
            failures.append(message if path in message else f"{path}: {message}")
    return failures


def is_done(output_dir: Path, stem: str) -> bool:
    """Whether a scene's provenance and all the files that it lists are there."""
    try:
        listed = json.loads((output_dir / f"{stem}{PROVENANCE}").read_text())["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((output_dir / name).exists() for name in listed)


def predict_scene(predictor: Predictor, path: str, output_dir: Path, settings: Settings) -> dict:
    """Writes the flood map of one scene; all files get their names together at the end, the provenance last.

    Args:
        predictor: a student.
        path: GeoTIFF with VV and VH in dB.
        output_dir: folder, made if it is not there.
        settings: windows and reference water.

    Returns:
        The provenance: model, threshold, input, crs, grid, shares and areas.

    Raises:
        UserError: for a file that is no Sentinel-1 scene in dB, or cannot be read or placed in a UTM zone.
    """
    stem = Path(path).stem
    temporary = output_dir / f".{stem}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        # 1. Window by window: everything that needs the network.
        with raster.open_raster(path) as dataset:
            source = raster.grid_of(dataset)
            grid = grid_lib.scene_grid(source.crs, source.transform, source.width, source.height)
            reader = SceneReader(dataset, grid, settings.window_px)
            counts = _write_plain(predictor, reader, temporary, settings)
        # 2. From the whole mask: polygons, COGs, preview, provenance.
        provenance = _provenance(predictor, path, source, grid, settings, counts)
        provenance["num_polygons"] = polygons.write_geojson(
            polygons.water_polygons(temporary / WATER), grid.crs, temporary / f"{stem}{POLYGONS}", f"{stem}_water"
        )
        _write_cogs(temporary, stem, provenance)
        scene_preview.draw(
            reader.preview_s1, reader.preview_mask, _title(stem, provenance), temporary / f"{stem}{PREVIEW}"
        )
        return _publish(temporary, output_dir, stem, provenance)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def percent(probability: np.ndarray) -> np.ndarray:
    """Returns uint8 percent, 0..100, of float32 probabilities in [0, 1]; 255 where NaN."""
    nodata = np.isnan(probability)
    whole = np.rint(np.where(nodata, 0, probability) * contract.PERCENT_MAX)
    return np.where(nodata, contract.MASK_NODATA, whole).astype(np.uint8)


def flood_mask(mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Tells flood from water that is always there.

    Args:
        mask: uint8 [height, width], 0 dry, 1 water, 255 no data.
        reference: int8 [height, width], 1 water, 0 not, -1 unknown.

    Returns:
        uint8 [height, width]: 0 dry, 1 flood, 2 water also in the reference, 255 no data in the scene, or water where
        the reference is unknown.
    """
    wet = mask == contract.WATER
    flood = mask.copy()
    flood[wet & (reference == contract.WATER)] = REFERENCE_WATER
    flood[wet & (reference == contract.IGNORE_LABEL)] = contract.MASK_NODATA
    return flood


def _check(predictor: Predictor, inputs: Sequence[str], settings: Settings) -> None:
    if predictor.model == OTSU:
        raise UserError("--model=otsu: Otsu's threshold is one of a tile, not of a scene; give a trained model")
    if predictor.imagery != contract.SENTINEL:
        raise UserError(
            f"--model={predictor.model}: trained on images of {predictor.dataset}, not on VV and VH in dB as scenes "
            "hold; give a model trained on Sen1Floods11"
        )
    if predictor.inputs != contract.INPUT_S1:
        raise UserError(
            f"--model={predictor.model}: a teacher, which needs Sentinel-2 as well; give a student or a baseline"
        )
    stems = [Path(path).stem for path in inputs]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UserError(f"--input: several inputs are named {', '.join(twice)}; predict them into different folders")
    if settings.batch_size < 1 or not 0 <= settings.overlap_px < settings.window_px:
        raise UserError(
            f"predict_scenes: window_px={settings.window_px}, overlap_px={settings.overlap_px}, "
            f"batch_size={settings.batch_size}; the overlap must be smaller than the window, the batch at least 1"
        )


def _write_plain(predictor: Predictor, reader: SceneReader, folder: Path, settings: Settings) -> np.ndarray:
    """Predicts a scene strip by strip into plain GeoTIFFs named after their endings.

    Returns:
        How many pixels of the mask have each value, int64 [256].
    """
    grid, counts = reader.grid, np.zeros(256, np.int64)
    endings = [WATER, PROBABILITY] + ([FLOOD] if settings.reference_water else [])
    with contextlib.ExitStack() as stack:
        writers = {ending: stack.enter_context(cog.open_strips(folder / ending, grid)) for ending in endings}
        for row, probability in _strips(predictor, reader, settings):
            mask = water_mask(probability, predictor.threshold)
            writers[WATER].write(row, mask)
            writers[PROBABILITY].write(row, percent(probability))
            if settings.reference_water:
                reference = read_reference(settings.reference_water, grid.window(row, 0, *mask.shape))
                writers[FLOOD].write(row, flood_mask(mask, reference))
            reader.keep_mask(row, mask)
            counts += np.bincount(mask.ravel(), minlength=256)
    return counts


def _strips(predictor: Predictor, reader: SceneReader, settings: Settings) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the scene's water probability from top to bottom, under a progress bar of windows."""
    window_px, overlap_px = settings.window_px, settings.overlap_px
    num_windows = windows.num_windows(*reader.grid.shape, window_px, overlap_px)
    with tqdm(total=num_windows, desc=Path(reader.name).stem, unit="window") as bar:

        def predict(origins: Sequence[tuple[int, int]]) -> np.ndarray:
            s1 = np.stack([reader.read(row, column) for row, column in origins])
            probability = np.full(s1.shape[:-1], np.nan, np.float32)
            seen = np.isfinite(s1).all(axis=-1).any(axis=(1, 2))
            if seen.any():  # windows without any radar need no network
                probability[seen] = predictor(s1[seen])
            bar.update(len(origins))
            return probability

        yield from windows.blended_strips(*reader.grid.shape, window_px, overlap_px, settings.batch_size, predict)


def _provenance(
    predictor: Predictor,
    path: str,
    source: grid_lib.Grid,
    grid: grid_lib.Grid,
    settings: Settings,
    counts: np.ndarray,
) -> dict:
    num_pixels, pixel_area_m2 = int(counts.sum()), contract.PIXEL_SIZE_M**2
    dry, water = int(counts[contract.DRY]), int(counts[contract.WATER])
    return {
        "input": str(path),
        "input_sha256": _sha256(path),
        "source": _source(path),
        "input_crs": source.crs,
        "input_size_px": [source.height, source.width],
        "model": predictor.model,
        "model_name": predictor.name,
        "model_source": predictor.source,
        "threshold": predictor.threshold,
        **dataclasses.asdict(settings),
        "crs": grid.crs,
        "transform": list(grid.transform),
        "size_px": [grid.height, grid.width],
        "share_nodata": 1 - (dry + water) / num_pixels,
        "share_water": water / num_pixels,
        "share_dry": dry / num_pixels,
        "share_water_of_valid": water / (dry + water) if dry + water else None,
        "water_area_m2": water * pixel_area_m2,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _write_cogs(folder: Path, stem: str, provenance: dict) -> None:
    """Turns the plain GeoTIFFs into COGs under their own names, and removes them."""
    tags = {f"FLOOD_DISTILL_{key.upper()}": str(provenance[key]) for key in ("model_name", "model_source", "threshold")}
    for ending, description, colors, resampling in (
        (WATER, "water: 0 dry, 1 water, 255 no data", WATER_COLORS, "nearest"),
        (PROBABILITY, "probability of water in percent, 255 no data", None, "average"),
        (FLOOD, "flood: 0 dry, 1 flood, 2 reference water, 255 no data", FLOOD_COLORS, "nearest"),
    ):
        plain = folder / ending
        if plain.exists():
            cog.to_cog(plain, folder / f"{stem}{ending}", description, tags, colors, resampling)
            plain.unlink()


def _title(stem: str, provenance: dict) -> str:
    share = provenance["share_water_of_valid"]
    water = "no valid pixel" if share is None else f"water {share:.1%} of the valid pixels"
    model = f"{provenance['model_name']}, trained on {provenance['model_source']} data"
    return f"{stem} ({provenance['source']} scene)\n{model}\n{water}, {provenance['water_area_m2'] / 1e6:.2f} km²"


def _publish(temporary: Path, output_dir: Path, stem: str, provenance: dict) -> dict:
    """Gives everything its own name: the old provenance goes first and the new one comes last."""
    (output_dir / f"{stem}{PROVENANCE}").unlink(missing_ok=True)
    (output_dir / f"{stem}{FLOOD}").unlink(missing_ok=True)
    names = sorted(path.name for path in temporary.iterdir())
    provenance = {**provenance, "outputs": names}
    (temporary / f"{stem}{PROVENANCE}").write_text(json.dumps(provenance, indent=2) + "\n")
    for name in [*names, f"{stem}{PROVENANCE}"]:
        (temporary / name).replace(output_dir / name)
    return provenance


def _sha256(path: str) -> str | None:
    """Returns the SHA-256 of a local file, None for what GDAL reads from elsewhere."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(path: str) -> str:
    """Returns ``synthetic`` for a scene in or up to two folders below a folder that is marked so, else ``real``."""
    marked = any((folder / contract.SYNTHETIC_MARKER).is_file() for folder in Path(path).resolve().parents[:3])
    return contract.SOURCE_SYNTHETIC if marked else contract.SOURCE_REAL
