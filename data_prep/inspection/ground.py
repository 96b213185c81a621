"""Which tiles of different splits show the same ground: a model that was trained on one has seen the other."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tqdm

from flood_distill.geo import footprints
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.footprints import Box
from flood_distill.geo.grid import Grid

# Directions (right, up) in which the outermost pixels are looked for, counterclockwise.
_DIRECTIONS = np.array([(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)], np.float64)
_MAX_COMPARED = 1 << 21  # pairs of boxes at a time: 100 MB


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two tiles that show the same ground.

    Attributes:
        first: name of the one tile.
        second: name of the other.
        share: common ground as a share of the smaller one's.
    """

    first: str
    second: str
    share: float


def outline(seen: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns the corners of what a tile shows.

    They are the centres of the outermost pixels in eight directions, so that neighbours, which share an edge, do not
    overlap, and a chip that lies askew on its tile keeps its corners.

    Args:
        seen: bool [height, width], True somewhere.
        grid: the tile's.

    Returns:
        float64 [8, 2], longitude and latitude in degrees, counterclockwise; corners may repeat.
    """
    rows = np.flatnonzero(seen.any(axis=1))
    first, last = seen[rows].argmax(axis=1), seen.shape[1] - 1 - seen[rows, ::-1].argmax(axis=1)
    pixels = np.stack([np.concatenate([first, last]), -np.concatenate([rows, rows])], axis=-1).astype(np.float64)
    corners = pixels[(pixels @ _DIRECTIONS.T).argmax(axis=0)]
    xs, ys = grid.points(0.5 - corners[:, 1], corners[:, 0] + 0.5)
    longitudes, latitudes = grid_lib.project(grid.crs, grid_lib.GEOGRAPHIC_CRS, xs, ys)
    longitudes = longitudes[0] + (longitudes - longitudes[0] + 180) % 360 - 180
    return np.stack([longitudes, latitudes], axis=-1)


def box_outline(box: Box) -> np.ndarray:
    """Returns the corners of a box in degrees, float64 [4, 2], counterclockwise."""
    west, south, east, north = box
    return np.array([(west, south), (east, south), (east, north), (west, north)])


def overlaps(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], first_names: Sequence[str], second_names: Sequence[str]
) -> list[Overlap]:
    """Returns the pairs of outlines, one of each group, that have ground in common, the largest share first."""
    boxes, others = (np.array([_box(corners) for corners in group]) for group in (first, second))
    found = []
    for one, candidates in _candidates(boxes, others):
        for other in candidates:
            share = common_share(first[one], second[other])
            if share > 0:
                found.append(Overlap(first_names[one], second_names[other], share))
    return sorted(found, key=lambda overlap: (-overlap.share, overlap.first, overlap.second))


def common_share(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the common area of two convex outlines as a share of the smaller one's area; 0 if one has no area."""
    scale = math.cos(math.radians(first[0, 1]))
    shift = 360 * round((second[0, 0] - first[0, 0]) / 360)
    one, two = ((outline_ - [first[0, 0], first[0, 1]]) * [scale, 1] for outline_ in (first, second - [shift, 0]))
    smaller = min(_area(one), _area(two))
    return _area(_clip(one, two)) / smaller if smaller > 0 else 0.0


def _candidates(boxes: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the index of each box that meets others, with their indices."""
    if not len(boxes) or not len(others):
        return
    step = max(_MAX_COMPARED // len(others), 1)
    starts = tqdm.tqdm(range(0, len(boxes), step), desc="Comparing ground", unit="block", leave=False, mininterval=1.0)
    for start in starts:
        for hit in np.flatnonzero(footprints.meets(boxes[start : start + step], others)):
            one = start + int(hit)
            yield one, np.flatnonzero(footprints.meets(others, [boxes[one]]))


def _box(corners: np.ndarray) -> Box:
    (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
    return float(west), float(south), float(east), float(north)


def _area(corners: np.ndarray) -> float:
    """Area inside counterclockwise corners (shoelace formula)."""
    if len(corners) < 3:
        return 0.0
    x, y = corners[:, 0], corners[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _clip(subject: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Returns the part of a convex outline inside another (Sutherland and Hodgman 1974)."""
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        edge = end - start
        if not len(subject) or not edge.any():
            continue
        # Positive on the left of the edge: inside.
        sides = edge[0] * (subject[:, 1] - start[1]) - edge[1] * (subject[:, 0] - start[0])
        kept = []
        for index, side in enumerate(sides):
            previous = index - 1
            if (side >= 0) != (sides[previous] >= 0):
                cut = sides[previous] / (sides[previous] - side)
                kept.append(subject[previous] + cut * (subject[index] - subject[previous]))
            if side >= 0:
                kept.append(subject[index])
        subject = np.array(kept).reshape(-1, 2)
    return subject
