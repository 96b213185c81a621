"""Flood maps of Sentinel-1 scenes of any size and crs.

Memory does not grow with a scene's height: one row of windows (window_px x scene width, two float32), some windows on
their way and GDAL's block cache.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import gin
import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError
from tqdm import tqdm

from flood_distill import (
    contract,
    files,
    object_store,
    scene_files,
    scene_inputs,
    scene_pipeline,
    scene_preview,
    scene_stac,
)
from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import polygons, raster
from flood_distill.geo.grid import Grid
from flood_distill.predictor import OTSU, Predictor
from flood_distill.scene_files import FLOOD, FLOOD_POLYGONS, POLYGONS, PREVIEW, PROVENANCE, STAC, STYLE, WATER
from flood_distill.scene_inputs import SceneInput
from flood_distill.scene_maps import LAYERS, REFERENCE_WATER, MapWriter, make_cogs, open_maps
from flood_distill.scene_reader import DB, Reference, SceneReader, open_scene

MODEL_GRID = "model"
INPUT_GRID = "input"
OUTPUT_GRIDS = (MODEL_GRID, INPUT_GRID)
_MAX_SIDE_PX = 2_500_000  # 40,000 km of 16 m: once around the Earth
_ROWS_AT_ONCE = 32  # of a strip: what is computed of a wide one takes little memory
# Holds the source rows of a row of windows; GDAL takes 5 % of the machine. Rasterio wants bytes, GDAL itself MB.
_GDAL_CACHE_BYTES = 256_000_000
_FAILURES = (UserError, rasterio.errors.RasterioError, CPLE_BaseError, OSError)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the maps of scenes are to be made of and look like.

    Attributes:
        reference_water: raster of water that is always there, any crs; adds the flood map and its polygons.
        bands: what the files' bands are, such as ``("VV", "VH")``; empty: what they say themselves.
        input_unit: ``db``, or ``linear`` for power.
        resolution_m: pixel size of the prediction; networks are trained on 16 m.
        crs: projection of the maps, in metres; None: the UTM zone of the scene's centre.
        output_grid: ``model``, or ``input`` for maps on the scene's own grid.
    """

    reference_water: str = ""
    bands: tuple[str, ...] = ()
    input_unit: str = DB
    resolution_m: float = contract.PIXEL_SIZE_M
    crs: str | None = None
    output_grid: str = MODEL_GRID


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers of prediction; see `predict_scenes`."""

    window_px: int
    overlap_px: int
    batch_size: int
    average_flips: bool
    min_polygon_m2: float
    simplify_m: float
    reference_min: float | None


# Scenes, folder, options, numbers, whether to overwrite -> one line for each scene that failed.
PredictAll = Callable[[Sequence[SceneInput], Path, Options, Numbers, bool], list[str]]


@gin.configurable
def predict_scenes(
    predictor: Predictor,
    inputs: Sequence[str],
    output_dir: str | Path,
    options: Options = Options(),  # noqa: B008 (frozen)
    *,
    overwrite: bool = False,
    predict_all: PredictAll | None = None,
    window_px: int = 321,
    overlap_px: int = 64,
    batch_size: int = 4,
    average_flips: bool = False,
    min_polygon_m2: float = 1000.0,
    simplify_m: float = 0.0,
    reference_min: float | None = None,
) -> tuple[int, list[str]]:
    """Writes the flood maps of scenes; one that fails does not stop the others.

    Args:
        predictor: a student; a teacher needs Sentinel-2, and Otsu's threshold is one of a tile.
        inputs: scenes with VV and VH, as `scene_inputs.expand` takes them.
        output_dir: folder for what comes out, named after each scene's stem.
        options: what the maps are made of and look like.
        overwrite: make scenes again that are done; they are skipped otherwise.
        predict_all: what works through the scenes, such as a `scene_beam.Cluster`; None: this process, one by one.
        window_px: side of a window; 321 is what the network was trained on.
        overlap_px: pixels that neighbouring windows share at least.
        batch_size: windows that go through the network at once.
        average_flips: whether the probability is the mean over a window and its mirror images: four times the work.
        min_polygon_m2: smaller polygons are left out; the rasters keep every pixel.
        simplify_m: how far a polygon's simplified outline may lie from the traced one; 0 keeps every corner.
        reference_min: values of the reference from this one on are water and smaller ones are not, such as 50 for an
            occurrence in percent; None: 1 is water and 0 is not.

    Returns:
        How many scenes the inputs name, and one line for each that failed: which and why.

    Raises:
        UserError: before any work, for a predictor that cannot do scenes, inputs that cannot be told apart, impossible
            sizes, or a reference that cannot be read.
    """
    object_store.local_only("--output_dir", output_dir)
    numbers = Numbers(window_px, overlap_px, batch_size, average_flips, min_polygon_m2, simplify_m, reference_min)
    scenes = scene_inputs.expand(inputs)
    _check(predictor, options, numbers)
    if predict_all is None:
        predict_all = functools.partial(_one_by_one, predictor)
    return len(scenes), predict_all(scenes, Path(output_dir), options, numbers, overwrite)


def _one_by_one(
    predictor: Predictor,
    scenes: Sequence[SceneInput],
    folder: Path,
    options: Options,
    numbers: Numbers,
    overwrite: bool,
) -> list[str]:
    lines = (predict_or_tell(predictor, scene, folder, options, numbers, overwrite) for scene in scenes)
    return [line for line in lines if line]


def predict_or_tell(
    predictor: Predictor, scene: SceneInput, folder: Path, options: Options, numbers: Numbers, overwrite: bool
) -> str | None:
    """Makes one scene's maps unless they are there; returns one line if that fails, None otherwise."""
    if not overwrite and is_done(folder, scene.stem):
        there = folder / f"{scene.stem}{PROVENANCE}"
        tqdm.write(f"{scene.name}: already done ({there} is there); --overwrite makes it again")
        _remove_left_over(folder, scene.stem)
        return None
    try:
        predict_scene(predictor, scene, folder, options, numbers)
    except _FAILURES as error:
        message = " ".join(str(error).split())
        return message if any(path in message for path in scene.paths) else f"{scene.name}: {message}"
    return None


def is_done(output_dir: Path, stem: str) -> bool:
    """Whether a scene's provenance and all the files that it lists are there."""
    try:
        listed = json.loads((output_dir / f"{stem}{PROVENANCE}").read_text())["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((output_dir / name).exists() for name in listed)


def predict_scene(
    predictor: Predictor, scene: SceneInput, output_dir: Path, options: Options, numbers: Numbers
) -> dict:
    """Writes the flood map of one scene; all files get their names together at the end, the provenance last.

    Args:
        predictor: a student.
        scene: the files and the stem.
        output_dir: folder, made if it is not there.
        options, numbers: as for `predict_scenes`.

    Returns:
        The provenance: model, threshold, input, crs, grid, shares and areas.

    Raises:
        UserError: for a file that is no Sentinel-1 scene in the unit, or cannot be read or placed, or has no room on
            the disk.
    """
    with _work_folder(output_dir, scene.stem) as temporary, rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES):
        # 1. Window by window: everything that needs the network.
        with open_scene(scene, options.bands, options.input_unit) as reader:
            predicted, written = _grids(reader, options)
            _check_room(predicted, written, temporary)
            reader.look()
            maps = _write_maps(predictor, reader, predicted, written, temporary, options, numbers)
            reader.check()
            input_tags = reader.tags
        # 2. From the whole mask: polygons, COGs, preview, provenance.
        provenance = _provenance(predictor, scene, reader.grid, written, options, numbers) | _tally(maps)
        provenance |= _write_polygons(temporary, scene.stem, written, numbers)
        make_cogs(temporary, scene.stem, _tags(provenance))
        shutil.copyfile(Path(__file__).with_name("probability.qml"), temporary / f"{scene.stem}{STYLE}")
        title = _title(scene.stem, provenance)
        scene_preview.draw(maps.preview_vv, maps.preview_mask, title, temporary / f"{scene.stem}{PREVIEW}")
        _write_stac(temporary, scene.stem, written, provenance, input_tags)
        return _publish(temporary, output_dir, scene.stem, provenance)


def _check(predictor: Predictor, options: Options, numbers: Numbers) -> None:
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
    if numbers.batch_size < 1 or not 0 <= numbers.overlap_px < numbers.window_px:
        raise UserError(
            f"predict_scenes: window_px={numbers.window_px}, overlap_px={numbers.overlap_px}, "
            f"batch_size={numbers.batch_size}; the overlap must be smaller than the window, the batch at least 1"
        )
    if not options.resolution_m > 0:
        raise UserError(f"--resolution_m={options.resolution_m}: must be above 0; networks are trained on 16 m")
    if options.crs is not None and not grid_lib.is_metric(options.crs):
        raise UserError(
            f"--crs={options.crs}: not a map projection in metres; --output_grid=input keeps the scene's own"
        )
    with _open_reference(options, numbers):
        pass


@contextlib.contextmanager
def _work_folder(output_dir: Path, stem: str) -> Iterator[Path]:
    """Gives an empty folder beside the outputs to make them in, which no other process has; removes it at the end."""
    folder = _partial(output_dir, stem)
    folder.mkdir(parents=True, exist_ok=True)
    with files.only_one(folder, f"{folder} is in use: another process makes the same scene's maps"):
        try:
            for left_over in folder.iterdir():
                left_over.unlink()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_left_over(output_dir: Path, stem: str) -> None:
    """Removes the folder of a run that was killed after its last file got its name, if nobody else works there."""
    if _partial(output_dir, stem).exists():
        with contextlib.suppress(UserError), _work_folder(output_dir, stem):
            pass


def _partial(output_dir: Path, stem: str) -> Path:
    return output_dir / f".{stem}.partial"


def _grids(reader: SceneReader, options: Options) -> tuple[Grid, Grid]:
    """Returns the grid that is predicted and the one that is written."""
    try:
        predicted = grid_lib.scene_grid(reader.grid, options.crs, options.resolution_m)
    except UserError as error:
        raise UserError(f"{reader.name}: {error}") from error
    if options.output_grid == MODEL_GRID:
        return predicted, predicted
    if isinstance(reader.grid, grid_lib.ControlPointGrid):
        raise UserError(f"{reader.name}: --output_grid=input: placed by ground control points, so without a map grid")
    return predicted, reader.grid


def _check_room(predicted: Grid, written: Grid, folder: Path) -> None:
    need = scene_pipeline.disk_need_bytes(predicted, written, len(LAYERS))
    free = shutil.disk_usage(folder).free
    size = f"{predicted.width} x {predicted.height} pixels"
    if need > free:
        raise UserError(
            f"{size} of maps need up to {need / 1e9:.3g} GB in {folder.parent}, where {free / 1e9:.3g} are free"
        )
    if max(*predicted.shape, *written.shape) > _MAX_SIDE_PX:
        raise UserError(f"{size} of maps are more than go around the Earth; is the file's transform right?")


def _write_maps(
    predictor: Predictor,
    reader: SceneReader,
    predicted: Grid,
    written: Grid,
    folder: Path,
    options: Options,
    numbers: Numbers,
) -> MapWriter:
    """Predicts a scene strip by strip into plain GeoTIFFs named after their endings."""
    sizes = {name: getattr(numbers, name) for name in ("window_px", "overlap_px", "batch_size", "average_flips")}
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(_open_reference(options, numbers))
        maps = stack.enter_context(open_maps(folder, written, predictor.threshold, reference))
        strips = stack.enter_context(scene_pipeline.probability_strips(predictor, reader, predicted, **sizes))
        if written is not predicted:
            strips = stack.enter_context(scene_pipeline.on_own_grid(strips, reader, predicted, folder))
        for row, probability, vv_db in strips:
            for start in range(0, len(probability), _ROWS_AT_ONCE):
                part = slice(start, start + _ROWS_AT_ONCE)
                maps.write(row + start, probability[part], vv_db[part])
    return maps


@contextlib.contextmanager
def _open_reference(options: Options, numbers: Numbers) -> Iterator[Reference | None]:
    if not options.reference_water:
        yield None
        return
    with raster.open_raster(options.reference_water) as dataset:
        yield Reference(dataset, numbers.reference_min)


def _provenance(
    predictor: Predictor, scene: SceneInput, source: Grid, grid: Grid, options: Options, numbers: Numbers
) -> dict:
    return {
        "input": scene.name,
        "input_sha256": [_sha256(path) for path in scene.paths],
        "source": _source(scene.paths[0]),
        "input_crs": source.crs,
        "input_size_px": list(source.shape),
        "model": predictor.model,
        "model_name": predictor.name,
        "model_source": predictor.source,
        "threshold": predictor.threshold,
        **dataclasses.asdict(options),
        **dataclasses.asdict(numbers),
        "crs": grid.crs,
        "transform": list(grid.transform),
        "size_px": list(grid.shape),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _tally(maps: MapWriter) -> dict:
    """Returns shares of the pixels and areas on the ground."""
    counts, num_pixels = maps.mask_areas.num_pixels, int(maps.mask_areas.num_pixels.sum())
    dry, water = int(counts[contract.DRY]), int(counts[contract.WATER])
    area_km2 = {"water": maps.mask_areas.area_m2[contract.WATER], "dry": maps.mask_areas.area_m2[contract.DRY]}
    if maps.flood_areas:
        flood, permanent = (maps.flood_areas.area_m2[value] for value in (contract.WATER, REFERENCE_WATER))
        unknown = area_km2["water"] - flood - permanent
        area_km2 |= {"flood": flood, "permanent_water": permanent, "water_of_unknown_kind": max(unknown, 0.0)}
    return {
        "share_nodata": 1 - (dry + water) / num_pixels,
        "share_water": water / num_pixels,
        "share_dry": dry / num_pixels,
        "share_water_of_valid": water / (dry + water) if dry + water else None,
        "area_km2": {name: round(float(area_m2) / 1e6, 6) for name, area_m2 in area_km2.items()},
    }


def _write_polygons(folder: Path, stem: str, grid: Grid, numbers: Numbers) -> dict:
    """Writes the polygons of the plain rasters; returns how many there are."""
    found = {}
    for ending, target, kind in ((WATER, POLYGONS, "water"), (FLOOD, FLOOD_POLYGONS, "flood")):
        if (folder / ending).exists():
            found[f"num_{kind}_polygons"], found[f"num_{kind}_polygons_left_out"] = polygons.write_geojson(
                polygons.water_polygons(folder / ending),
                grid,
                folder / f"{stem}{target}",
                f"{stem}_{kind}",
                kind=kind,
                min_area_m2=numbers.min_polygon_m2,
                simplify_m=numbers.simplify_m,
            )
    return found


def _write_stac(folder: Path, stem: str, grid: Grid, provenance: Mapping, input_tags: Mapping[str, str]) -> None:
    names = {ending: f"{stem}{ending}" for ending in scene_files.ALL if ending not in (STAC, STYLE)}
    there = {ending: name for ending, name in names.items() if ending == PROVENANCE or (folder / name).exists()}
    item = scene_stac.item(stem, grid, provenance, there, input_tags)
    (folder / f"{stem}{STAC}").write_text(json.dumps(item.to_dict(), indent=2) + "\n")


def _tags(provenance: Mapping) -> dict[str, str]:
    return {f"FLOOD_DISTILL_{key.upper()}": str(provenance[key]) for key in ("model_name", "model_source", "threshold")}


def _title(stem: str, provenance: Mapping) -> str:
    share, area_km2 = provenance["share_water_of_valid"], provenance["area_km2"]
    water = "no valid pixel" if share is None else f"water {share:.1%} of the valid pixels"
    model = f"{provenance['model_name']}, trained on {provenance['model_source']} data"
    flood = f", of it flood {area_km2['flood']:.2f} km²" if "flood" in area_km2 else ""
    return f"{stem} ({provenance['source']} scene)\n{model}\n{water}, {area_km2['water']:.2f} km²{flood}"


def _publish(temporary: Path, output_dir: Path, stem: str, provenance: dict) -> dict:
    """Gives everything its own name: the old provenance goes first and the new one comes last."""
    names = sorted(path.name for path in temporary.iterdir())
    for ending in (PROVENANCE, *scene_files.ALL):
        if f"{stem}{ending}" not in names:
            (output_dir / f"{stem}{ending}").unlink(missing_ok=True)
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
