"""The one rule of geometry: which pixels, where on Earth, a tile or a scene has.

Every georeferenced tile becomes 320 x 320 pixels of 16 m (section 2.2 of the paper) in the UTM zone of its own centre,
north up. All grids of one zone share one lattice: pixel corners lie at whole multiples of 16 m, so a tile's pixels are
also pixels of the grid of the scene that holds it.
"""

import dataclasses
import functools
import math

import numpy as np
import rasterio.control
import rasterio.crs
import rasterio.errors
import rasterio.transform
import rasterio.warp
from rasterio._err import CPLE_BaseError

from flood_distill import contract
from flood_distill.errors import UserError

GEOGRAPHIC_CRS = "EPSG:4326"
SAME_GRID_TOLERANCE_PX = 0.01  # layers of one Sen1Floods11 chip differ by 1e-16 degrees, 1e-12 pixels
_EDGE_POINTS = 33  # points per side when an outline is projected; 5 m of error at most on a 300 km scene


@dataclasses.dataclass(frozen=True)
class Grid:
    """A raster's place on Earth.

    Attributes:
        crs: coordinate reference system, such as ``EPSG:32630``.
        transform: affine order a b c d e f: x = a col + b row + c, y = d col + e row + f, for pixel corners.
        width: number of columns.
        height: number of rows.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    def window(self, row: int, col: int, height: int, width: int) -> "Grid":
        """Returns the grid of `height` x `width` pixels whose first pixel is (`row`, `col`) of this one.

        The window may lie partly or wholly outside.
        """
        a, b, c, d, e, f = self.transform
        origin = (a * col + b * row + c, d * col + e * row + f)
        return Grid(self.crs, (a, b, origin[0], d, e, origin[1]), width, height)

    def points(self, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns x and y of fractional pixel positions (0, 0 is the outer corner of the first pixel)."""
        a, b, c, d, e, f = self.transform
        return a * cols + b * rows + c, d * cols + e * rows + f

    def pixels(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns fractional rows and columns of points given in this grid's own crs."""
        a, b, c, d, e, f = self.transform
        if b == 0 and d == 0:  # kept apart so that aligned grids give whole numbers exactly
            return (ys - f) / e, (xs - c) / a
        determinant = a * e - b * d
        cols = (e * (xs - c) - b * (ys - f)) / determinant
        rows = (a * (ys - f) - d * (xs - c)) / determinant
        return rows, cols


@dataclasses.dataclass(frozen=True)
class ControlPointGrid(Grid):
    """A raster in radar geometry: its place is told by ground control points, between which a thin plate spline runs.

    The spline meets every point; a polynomial misses those of a Sentinel-1 product by tens of metres in mountains.

    Attributes:
        transform: the affine one nearest to the points.
        control_points: row, column, x and y of each, with x and y in `crs`.
    """

    control_points: tuple[tuple[float, float, float, float], ...] = ()

    def points(self, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Grid.points`."""
        xs, ys = _spline(self.control_points).xy(np.ravel(rows), np.ravel(cols), offset="ul")
        return np.reshape(xs, np.shape(rows)), np.reshape(ys, np.shape(rows))

    def pixels(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Grid.pixels`."""
        rows, cols = _spline(self.control_points).rowcol(np.ravel(xs), np.ravel(ys), op=np.asarray)
        return np.reshape(rows, np.shape(xs)), np.reshape(cols, np.shape(xs))


@functools.lru_cache(maxsize=4)
def _spline(control_points: tuple[tuple[float, float, float, float], ...]) -> rasterio.transform.GCPTransformer:
    points = [rasterio.control.GroundControlPoint(*point) for point in control_points]
    return rasterio.transform.GCPTransformer(points, tps=True)


def pixels_of(grid: Grid, crs: str, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the fractional rows and columns that points of another crs have in a grid.

    In degrees, longitudes are those nearest to the grid's centre: a raster may run beyond 180 or from 0 to 360.
    """
    if same_crs(crs, grid.crs):
        return grid.pixels(np.asarray(xs, np.float64), np.asarray(ys, np.float64))
    xs, ys = project(crs, grid.crs, xs, ys)
    if is_geographic(grid.crs):
        centre, _ = _centre(grid)
        xs = nearest_longitudes(xs, float(centre[0]))
    return grid.pixels(xs, ys)


def nearest_longitudes(longitudes: np.ndarray, around: float) -> np.ndarray:
    """Returns the same meridians in degrees within 180 of `around`; what is not finite stays so."""
    with np.errstate(invalid="ignore"):
        return longitudes - 360 * np.round((longitudes - around) / 360)


@functools.lru_cache(maxsize=32)
def is_geographic(crs: str) -> bool:
    """Whether coordinates are degrees of longitude and latitude."""
    return _crs(crs).is_geographic


@functools.lru_cache(maxsize=32)
def is_metric(crs: str) -> bool:
    """Whether coordinates are metres of a map projection."""
    found = _crs(crs)
    return found.is_projected and found.linear_units_factor[1] == 1.0


def project(source_crs: str, target_crs: str, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 x and y in `target_crs`; points that cannot be projected become infinite."""
    if source_crs == target_crs:
        return np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    points = np.ravel(xs).tolist(), np.ravel(ys).tolist()
    try:
        out_xs, out_ys = rasterio.warp.transform(_crs(source_crs), _crs(target_crs), *points)
    except CPLE_BaseError:  # one such point is enough
        out_xs, out_ys = zip(
            *(_project_one(source_crs, target_crs, x, y) for x, y in zip(*points, strict=True)), strict=True
        )
    return np.reshape(out_xs, np.shape(xs)), np.reshape(out_ys, np.shape(ys))


def _project_one(source_crs: str, target_crs: str, x: float, y: float) -> tuple[float, float]:
    try:
        (out_x,), (out_y,) = rasterio.warp.transform(_crs(source_crs), _crs(target_crs), [x], [y])
    except CPLE_BaseError:
        return math.inf, math.inf
    return out_x, out_y


@functools.lru_cache(maxsize=64)
def same_crs(first: str, second: str) -> bool:
    """Whether two names mean one coordinate reference system."""
    return first == second or _crs(first) == _crs(second)


def same_grid(first: Grid, second: Grid, tolerance_px: float = SAME_GRID_TOLERANCE_PX) -> bool:
    """Whether two grids have one size and crs and no corner that differs by more than `tolerance_px` pixels."""
    if first.shape != second.shape or not same_crs(first.crs, second.crs):
        return False
    rows, cols = _corners(first)
    other_rows, other_cols = first.pixels(*second.points(rows, cols))
    return bool(np.max(np.hypot(other_rows - rows, other_cols - cols)) <= tolerance_px)


def utm_crs(grid: Grid) -> str:
    """Returns the UTM zone (WGS 84) of a raster's centre: ``EPSG:326xx`` north of the equator, ``EPSG:327xx`` south.

    Zones are the plain 6 degree ones, without the exceptions for Norway and Svalbard.

    Raises:
        UserError: if the centre has no longitude and latitude, or lies where UTM is not defined.
    """
    xs, ys = _centre(grid)
    longitudes, latitudes = project(grid.crs, GEOGRAPHIC_CRS, xs, ys)
    longitude, latitude = float(longitudes[0]), float(latitudes[0])
    if not (math.isfinite(longitude) and -80 <= latitude <= 84):
        raise UserError(
            f"centre at longitude {longitude:.3f}, latitude {latitude:.3f} is outside of UTM (80 S to 84 N)"
        )
    zone = int((longitude + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def tile_grid(crs: str, transform: tuple[float, ...], width: int, height: int) -> Grid:
    """Returns the grid of a tile: UTM zone of its centre, 320 x 320 pixels of 16 m, centred, origin snapped to 16 m.

    Args:
        crs: the source's coordinate reference system.
        transform: the source's affine transform, order a b c d e f.
        width: columns of the source.
        height: rows of the source.

    Raises:
        UserError: if the source's centre is not in the range of UTM.
    """
    source = Grid(crs, tuple(transform), width, height)
    target_crs = utm_crs(source)
    xs, ys = project(crs, target_crs, *_centre(source))
    half_m = contract.TILE_SIZE_PX * contract.PIXEL_SIZE_M / 2
    left = _snap(float(xs[0]) - half_m)
    top = _snap(float(ys[0]) + half_m)
    return _north_up(target_crs, left, top, contract.TILE_SIZE_PX, contract.TILE_SIZE_PX)


def scene_grid(source: Grid, crs: str | None = None, pixel_size_m: float = contract.PIXEL_SIZE_M) -> Grid:
    """Returns the smallest north-up grid that covers a whole source; by default on the tiles' lattice.

    Args:
        source: the source's place.
        crs: projection of the result, in metres; the UTM zone of the source's centre without it.
        pixel_size_m: pixel size of the result, whose corners lie at whole multiples of it.

    Raises:
        UserError: if the source's centre is not in the range of UTM, its outline has no place in the projection, or
            `crs` is not in metres.
    """
    target_crs = utm_crs(source) if crs is None else crs
    if not is_metric(target_crs):
        raise UserError(f"crs {target_crs} is not a map projection in metres")
    xs, ys = project(source.crs, target_crs, *outline(source))
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise UserError(
            f"the outline of a {source.width} x {source.height} raster in {source.crs} cannot be projected to "
            f"{target_crs}"
        )
    tolerance = 1e-6  # an outline that misses a lattice line by a rounding error needs no further pixel
    left, right = math.floor(xs.min() / pixel_size_m + tolerance), math.ceil(xs.max() / pixel_size_m - tolerance)
    bottom, top = math.floor(ys.min() / pixel_size_m + tolerance), math.ceil(ys.max() / pixel_size_m - tolerance)
    return _north_up(target_crs, left * pixel_size_m, top * pixel_size_m, right - left, top - bottom, pixel_size_m)


def outline(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y (in the grid's crs) of points around the edge of a grid, corners included."""
    steps = np.linspace(0, 1, _EDGE_POINTS)
    rows = np.concatenate([0 * steps, steps, 0 * steps + 1, 1 - steps]) * grid.height
    cols = np.concatenate([steps, 0 * steps + 1, 1 - steps, 0 * steps]) * grid.width
    return grid.points(rows, cols)


def _centre(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    return grid.points(np.array([grid.height / 2]), np.array([grid.width / 2]))


def _north_up(
    crs: str, left: float, top: float, width: int, height: int, size_m: float = contract.PIXEL_SIZE_M
) -> Grid:
    return Grid(crs, (size_m, 0.0, left, 0.0, -size_m, top), width, height)


def _snap(value_m: float) -> float:
    return math.floor(value_m / contract.PIXEL_SIZE_M + 0.5) * contract.PIXEL_SIZE_M


def _corners(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    return np.array([0.0, 0.0, grid.height, grid.height]), np.array([0.0, grid.width, 0.0, grid.width])


def _crs(text: str) -> rasterio.crs.CRS:
    try:
        return rasterio.crs.CRS.from_user_input(text)
    except rasterio.errors.CRSError as error:
        raise UserError(f"crs {text!r} is not known: {error}") from error
