"""Opening, checking and writing of GeoTIFF files.

Every fault becomes a `UserError` that names the file. Pixels are really read where they are needed, because a truncated
file opens without complaint.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.control
import rasterio.errors
import rasterio.transform
import rasterio.windows
from rasterio._err import CPLE_BaseError

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import warp
from flood_distill.geo.grid import Grid

_MIN_CONTROL_POINTS = 4  # three fit any affine transform and show no mistake
RESERVED_NAME = ".{name}.incomplete"  # beside the final file, until it is whole


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a raster file of one kind must look like.

    Attributes:
        name: as in file names, such as ``S1Hand``.
        num_bands: number of bands in the file.
        dtypes: the data types that may occur.
        size: rows and columns, or None for any.
    """

    name: str
    num_bands: int
    dtypes: tuple[str, ...]
    size: tuple[int, int] | None = None


@contextlib.contextmanager
def open_raster(path: str | os.PathLike, control_points: bool = False) -> Iterator[rasterio.DatasetReader]:
    """Opens a georeferenced raster for reading.

    Args:
        path: the file.
        control_points: whether ground control points will do in place of a crs; see `grid_of`.

    Raises:
        UserError: if there is no such file, it is no raster, or it has no crs; also for a read in the body that fails.
    """
    path = os.fspath(path)
    if "://" not in path and not os.path.exists(path):
        raise UserError(f"{path}: missing")
    try:
        with rasterio.open(path) as dataset:
            if dataset.crs is None and not (control_points and dataset.gcps[1]):
                raise UserError(f"{path}: has no coordinate reference system")
            yield dataset
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{path}: unreadable or truncated ({_reason(error)})") from error


def grid_of(dataset: rasterio.DatasetReader) -> Grid:
    """Returns a dataset's grid; its crs is ``EPSG:...`` where it has a code, WKT otherwise.

    A dataset without a crs of its own is placed by its ground control points.
    """
    if dataset.crs is None:
        return _control_point_grid(dataset)
    return Grid(_crs_name(dataset.crs), tuple(dataset.transform)[:6], dataset.width, dataset.height)


def _control_point_grid(dataset: rasterio.DatasetReader) -> grid_lib.ControlPointGrid:
    points, crs = dataset.gcps
    if len(points) < _MIN_CONTROL_POINTS:
        raise UserError(f"{dataset.name}: {len(points)} ground control points; {_MIN_CONTROL_POINTS} place a raster")
    name = _crs_name(crs)
    xs = np.array([point.x for point in points])
    if grid_lib.is_geographic(name):
        xs = grid_lib.nearest_longitudes(xs, xs[0])
    control_points = tuple((point.row, point.col, float(x), point.y) for point, x in zip(points, xs, strict=True))
    affine = rasterio.transform.from_gcps([rasterio.control.GroundControlPoint(*point) for point in control_points])
    return grid_lib.ControlPointGrid(name, tuple(affine)[:6], dataset.width, dataset.height, control_points)


def _crs_name(crs: rasterio.crs.CRS) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt()


def faults(dataset: rasterio.DatasetReader, layer: Layer, reference: Grid | None = None) -> list[str]:
    """Returns what is wrong with a dataset's header, a few words each; empty if nothing is.

    Args:
        dataset: an open dataset.
        layer: what it must be.
        reference: the grid that it must have too, up to `grid.SAME_GRID_TOLERANCE_PX`.
    """
    found = []
    if layer.size is not None and dataset.shape != layer.size:
        found.append(f"{_size(dataset.shape)} pixels, not {_size(layer.size)}")
    if dataset.count != layer.num_bands:
        found.append(f"{dataset.count} band(s), not {layer.num_bands}")
    if wrong := sorted(set(dataset.dtypes) - set(layer.dtypes)):
        found.append(f"dtype {', '.join(wrong)}, not {' or '.join(layer.dtypes)}")
    if (
        reference is not None
        and dataset.shape == reference.shape
        and not grid_lib.same_grid(reference, grid_of(dataset))
    ):
        found.append("its grid (crs or transform) is not that of the other layers")
    return found


def read(
    dataset: rasterio.DatasetReader, bands: Sequence[int], window: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Reads pixels, [bands, height, width] in the file's dtype.

    Args:
        dataset: an open dataset.
        bands: 1-based band numbers.
        window: row, column, height and width; None reads all.

    Raises:
        UserError: if the file cannot be read to the end.
    """
    box = None if window is None else rasterio.windows.Window(window[1], window[0], window[3], window[2])
    try:
        return dataset.read(list(bands), window=box)
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{dataset.name}: truncated or damaged ({_reason(error)})") from error


def read_mask(dataset: rasterio.DatasetReader, band: int, window: tuple[int, int, int, int]) -> np.ndarray:
    """Reads a band's mask, uint8 [height, width], 0 = no data; window and errors as for `read`."""
    box = rasterio.windows.Window(window[1], window[0], window[3], window[2])
    try:
        return dataset.read_masks(band, window=box)
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{dataset.name}: truncated or damaged ({_reason(error)})") from error


def read_s1(dataset: rasterio.DatasetReader, target: Grid, bands: Sequence[int] = (1, 2)) -> np.ndarray:
    """Reads the part of a Sentinel-1 raster that a grid needs and resamples it.

    Returns:
        float32 [target height, target width, bands], dB, NaN = no data.
    """
    sampling = warp.sample(grid_of(dataset), target)
    pixels = read(dataset, bands, sampling.window)
    return warp.warp_s1(pixels, sampling, sampling.window[:2], dataset.nodata)


def read_s2(
    dataset: rasterio.DatasetReader, target: Grid, bands: Sequence[int] = contract.S2_FILE_INDICES
) -> np.ndarray:
    """Reads the part of a Sentinel-2 raster that a grid needs and resamples it.

    Returns:
        int16 [target height, target width, bands], reflectance x 10000, 0 in all bands = no data.
    """
    sampling = warp.sample(grid_of(dataset), target)
    return warp.warp_s2(read(dataset, bands, sampling.window), sampling, sampling.window[:2])


def read_labels(dataset: rasterio.DatasetReader, target: Grid, band: int = 1) -> np.ndarray:
    """Reads the part of a label raster that a grid needs and takes the nearest pixels.

    Returns:
        int8 [target height, target width], -1 outside the source.
    """
    sampling = warp.sample(grid_of(dataset), target)
    return warp.warp_labels(read(dataset, [band], sampling.window)[0], sampling, sampling.window[:2])


def write_geotiff(
    path: str | os.PathLike,
    array: np.ndarray,
    grid: Grid,
    nodata: float | None,
    colormap: Mapping[int, tuple[int, int, int]] | None = None,
    cog: bool = True,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Writes a GeoTIFF under a temporary name beside the final one and renames it when it is whole.

    Args:
        path: the final name; a file of this name is replaced.
        array: [height, width] or [height, width, bands].
        grid: its place.
        nodata: value of the no-data tag, or None for none.
        colormap: red, green and blue (0..255) of each value of a one-band uint8 array.
        cog: Cloud Optimized GeoTIFF with overviews (nearest, so that classes stay classes); else a plain GeoTIFF.
        tags: further metadata items.

    Raises:
        UserError: if the file cannot be written, for instance because the disk is full.
        ValueError: if the array does not fit the grid.
    """
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if planes.shape[1:] != grid.shape:
        raise ValueError(f"array of {_size(planes.shape[1:])} pixels on a grid of {_size(grid.shape)}")
    path = Path(path)
    temporary = path.with_name(RESERVED_NAME.format(name=path.name))
    try:
        with rasterio.open(temporary, "w", **_profile(planes, grid, nodata, cog)) as dataset:
            dataset.write(planes)
            if colormap is not None:
                dataset.write_colormap(1, dict(colormap))
            if tags:
                dataset.update_tags(**tags)
        _read_back(temporary)
        os.replace(temporary, path)
    except (rasterio.errors.RasterioError, CPLE_BaseError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_back(path: Path) -> None:
    """Reads every block: rasterio does not tell when the last blocks, written on closing, found no room on the disk."""
    with rasterio.open(path) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(window=window)


def _profile(planes: np.ndarray, grid: Grid, nodata: float | None, cog: bool) -> dict:
    profile = {
        "driver": "COG" if cog else "GTiff",
        "dtype": planes.dtype,
        "count": planes.shape[0],
        "height": grid.height,
        "width": grid.width,
        "crs": grid.crs,
        "transform": rasterio.Affine(*grid.transform),
        "nodata": nodata,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    return profile | ({"overview_resampling": "nearest"} if cog else {})


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _reason(error: BaseException) -> str:
    """The innermost message of a chain of errors, on one line: GDAL keeps the telling one there."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())
