import numpy as np
import pytest
import rasterio
import rasterio.warp

from flood_distill.geo import grid as grid_lib
from flood_distill.geo import warp
from flood_distill.geo.grid import Grid

STEP = 8.983152841195215e-05  # degrees; Sen1Floods11's pixel
UTM = Grid("EPSG:32631", (16.0, 0.0, 320000.0, 0.0, -16.0, 640000.0), 32, 32)


def _chip(size: int = 512, west: float = -0.78, north: float = 38.13) -> Grid:
    return Grid("EPSG:4326", (STEP, 0.0, west, 0.0, -STEP, north), size, size)


def _tile(chip: Grid) -> Grid:
    return grid_lib.tile_grid(chip.crs, chip.transform, chip.width, chip.height)


def _speckle(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-12, 4, shape).astype(np.float32)


def test_aligned_grid_copies_exactly():
    pixels = _speckle((2, 32, 32))
    pixels[:, 3, 4] = np.nan
    warped = warp.warp_s1(pixels, warp.sample(UTM, UTM))
    np.testing.assert_array_equal(warped, np.moveaxis(pixels, 0, -1))
    shifted = warp.warp_s1(pixels, warp.sample(UTM, UTM.window(2, -3, 32, 32)))
    np.testing.assert_array_equal(shifted[:-2, 3:], np.moveaxis(pixels, 0, -1)[2:, :-3])
    assert np.isnan(shifted[-2:]).all()
    assert np.isnan(shifted[:, :3]).all()


def test_half_pixel_shift_is_the_mean_of_four():
    pixels = _speckle((1, 32, 32))
    target = Grid(UTM.crs, (16.0, 0.0, 320000.0 + 8, 0.0, -16.0, 640000.0 - 8), 31, 31)
    expected = (pixels[0, :-1, :-1] + pixels[0, 1:, :-1] + pixels[0, :-1, 1:] + pixels[0, 1:, 1:]) / 4
    np.testing.assert_allclose(warp.warp_s1(pixels, warp.sample(UTM, target))[..., 0], expected, atol=1e-5)


def test_positions_are_the_exact_projection():
    chip = _chip()
    tile = _tile(chip)
    sampling = warp.sample(chip, tile)
    ys, xs = np.mgrid[0.5:320, 0.5:320]
    rows, cols = chip.pixels(*grid_lib.project(tile.crs, chip.crs, *tile.points(ys, xs)))
    assert np.abs(sampling.rows - rows).max() < 1e-3  # 1 cm
    assert np.abs(sampling.cols - cols).max() < 1e-3


def test_linear_field_is_kept_between_degrees_and_utm():
    chip = _chip()
    rows, cols = np.mgrid[0.5:512, 0.5:512]
    pixels = np.stack([rows * 0.01 - 20, cols * 0.02 - 30]).astype(np.float32)
    sampling = warp.sample(chip, _tile(chip))
    warped = warp.warp_s1(pixels, sampling)
    inner = (sampling.rows > 1) & (sampling.rows < 511) & (sampling.cols > 1) & (sampling.cols < 511)
    np.testing.assert_allclose(warped[inner, 0], sampling.rows[inner] * 0.01 - 20, atol=1e-4)
    np.testing.assert_allclose(warped[inner, 1], sampling.cols[inner] * 0.02 - 30, atol=1e-4)


@pytest.mark.parametrize("origin", [(0, 0), (37, 101), (-5, 250)])
def test_window_of_a_scene_has_the_pixels_of_the_tile(origin):
    chip = _chip()
    pixels = _speckle((2, 512, 512))
    pixels[:, np.random.default_rng(1).random((512, 512)) < 0.01] = np.nan
    whole = grid_lib.scene_grid(chip)
    tile = _tile(chip)
    row = round((whole.transform[5] - tile.transform[5]) / 16)
    col = round((tile.transform[2] - whole.transform[2]) / 16)
    scene = warp.warp_s1(pixels, warp.sample(chip, whole.window(row, col, 320, 320)))
    np.testing.assert_array_equal(scene, warp.warp_s1(pixels, warp.sample(chip, tile)))
    # ... and so has a window that reads a part of the source only.
    window = tile.window(*origin, 64, 48)
    sampling = warp.sample(chip, window)
    top, left, height, width = sampling.window
    part = warp.warp_s1(pixels[:, top : top + height, left : left + width], sampling, (top, left))
    around = warp.warp_s1(pixels, warp.sample(chip, tile.window(-64, -64, 448, 448)))
    np.testing.assert_array_equal(around[64:384, 64:384], scene)
    rows, cols = origin[0] + 64, origin[1] + 64
    np.testing.assert_array_equal(part, around[rows : rows + 64, cols : cols + 48])


def test_one_crs_is_plain_bilinear_and_a_window_has_the_pixels_of_the_whole():
    source = Grid("EPSG:32631", (10.0, 0.0, 320003.0, 0.0, -10.0, 640001.0), 96, 80)
    pixels = _speckle((2, 80, 96))
    target = Grid(source.crs, (16.0, 0.0, 320000.0, 0.0, -16.0, 640000.0), 56, 48)
    warped = warp.warp_s1(pixels, warp.sample(source, target))
    # Row i lies 16 (i + 0.5) m south of 640000, and so 16 (i + 0.5) + 1 m south of the source's edge.
    rows, cols = (16 * (np.arange(48) + 0.5) + 1) / 10, (16 * (np.arange(56) + 0.5) - 3) / 10
    assert (np.isnan(warped).all(axis=-1) == ~((rows < 80)[:, None] & (cols < 96))).all()
    inner = np.ix_(rows <= 79.5, (cols >= 0.5) & (cols <= 95.5))
    rows, cols = rows[rows <= 79.5, None] - 0.5, cols[(cols >= 0.5) & (cols <= 95.5)] - 0.5
    upper, left = rows.astype(int), cols.astype(int)
    down, right = rows - upper, cols - left
    for band in (0, 1):
        around = [np.pad(pixels[band], (0, 1))[upper + i, left + j] for i in (0, 1) for j in (0, 1)]
        weights = (1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right
        expected = sum(weight * value for weight, value in zip(weights, around, strict=True))
        np.testing.assert_allclose(warped[..., band][inner], expected, atol=1e-5)
    window = target.window(7, -5, 30, 40)
    np.testing.assert_array_equal(warp.warp_s1(pixels, warp.sample(source, window))[:, 5:], warped[7:37, :35])


def test_no_data_neither_spreads_nor_shrinks_nor_lends_a_value():
    chip = _chip()
    pixels = np.full((2, 512, 512), -10, np.float32)
    pixels[1] = -17
    hole = np.random.default_rng(2).random((512, 512)) < 0.2
    pixels[0, hole] = np.nan  # one band is enough
    pixels[1, hole] = 1e30
    sampling = warp.sample(chip, _tile(chip))
    warped = warp.warp_s1(pixels, sampling)
    valid = np.isfinite(warped).all(axis=-1)
    assert (np.isfinite(warped).any(axis=-1) == valid).all()  # never one band without the other
    expected = warp.warp_labels((~hole).astype(np.int8), sampling) == 1
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_allclose(warped[valid], np.broadcast_to([-10, -17], warped[valid].shape), rtol=1e-6)


def test_infinity_and_the_nodata_tag_are_no_data():
    pixels = np.full((2, 32, 32), -10, np.float32)
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[0, 2, 2] = np.inf, -np.inf, -9999
    warped = warp.warp_s1(pixels, warp.sample(UTM, UTM), nodata=-9999)
    assert np.argwhere(np.isnan(warped[..., 0])).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_nothing_is_made_up_outside_the_source():
    chip = _chip()
    sampling = warp.sample(chip, _tile(chip))
    outside = (sampling.rows < 0) | (sampling.rows >= 512) | (sampling.cols < 0) | (sampling.cols >= 512)
    assert 0.2 < outside.mean() < 0.24  # at 38 N a chip covers 78 % of its tile
    assert sampling.outside_share == outside.mean()
    assert abs(warp.outside_share(chip, _tile(chip)) - outside.mean()) < 0.005
    np.testing.assert_array_equal(np.isnan(warp.warp_s1(_speckle((2, 512, 512)), sampling)[..., 0]), outside)
    np.testing.assert_array_equal((warp.warp_s2(np.ones((4, 512, 512), np.int16), sampling) == 0).all(-1), outside)
    np.testing.assert_array_equal(warp.warp_labels(np.zeros((512, 512), np.int16), sampling) == -1, outside)
    far = warp.sample(chip, UTM)
    assert far.window == (0, 0, 0, 0)
    assert np.isnan(warp.warp_s1(np.zeros((2, 0, 0), np.float32), far)).all()


def test_s2_is_no_data_only_where_all_bands_are_zero():
    pixels = np.full((4, 32, 32), 1000, np.int16)
    pixels[0, 5, 5] = 0  # a dark band in a valid pixel
    pixels[:, 9, 9] = 0
    pixels[:, 12, 12] = [1, 0, 0, 0]
    target = Grid(UTM.crs, (16.0, 0.0, 320004.0, 0.0, -16.0, 639996.0), 31, 31)  # a quarter pixel to the south-east
    warped = warp.warp_s2(pixels, warp.sample(UTM, target))
    assert warped.dtype == np.int16
    assert np.argwhere((warped == 0).all(-1)).tolist() == [[9, 9]]
    assert warped[5, 5].tolist() == [1000 * 7 // 16 + 1, 1000, 1000, 1000]  # weight of the dark pixel: (3/4)^2
    assert (warped[8, 8] == 1000).all()  # the no-data neighbour does not darken it


def test_dark_valid_s2_pixel_stays_valid():
    pixels = np.zeros((4, 32, 32), np.int16)
    pixels[0, 4, 4] = 1
    pixels[3] = 0
    pixels[1, 4, 5] = 1
    target = Grid(UTM.crs, (16.0, 0.0, 320008.0, 0.0, -16.0, 640000.0), 31, 32)
    warped = warp.warp_s2(pixels, warp.sample(UTM, target))
    assert warped[4, 4].any()


def test_labels_are_the_nearest():
    labels = np.random.default_rng(3).integers(-1, 2, (512, 512)).astype(np.int16)
    chip = _chip()
    sampling = warp.sample(chip, _tile(chip))
    warped = warp.warp_labels(labels, sampling)
    assert warped.dtype == np.int8
    rows, cols = sampling.rows[160, 100:200], sampling.cols[160, 100:200]
    np.testing.assert_array_equal(warped[160, 100:200], labels[rows.astype(int), cols.astype(int)])


def test_agrees_with_gdal_where_gdal_interpolates_alike():
    chip = _chip()
    tile = _tile(chip)
    rows, cols = np.mgrid[0:512, 0:512]
    smooth = (-15 + 4 * np.sin(rows / 40) * np.cos(cols / 55)).astype(np.float32)
    reference = np.full((320, 320), np.nan, np.float32)
    rasterio.warp.reproject(
        smooth,
        reference,
        src_transform=rasterio.Affine(*chip.transform),
        src_crs=chip.crs,
        dst_transform=rasterio.Affine(*tile.transform),
        dst_crs=tile.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=rasterio.warp.Resampling.bilinear,
    )
    ours = warp.warp_s1(smooth[None], warp.sample(chip, tile))[..., 0]
    both = np.isfinite(ours) & np.isfinite(reference)
    assert (np.isfinite(ours) != np.isfinite(reference)).mean() < 1e-3
    assert np.abs(ours - reference)[both].max() < 0.1  # GDAL widens the kernel and approximates by 1/8 pixel


def test_a_turned_target_has_the_pixels_of_the_source_that_it_lies_on():
    """A target turned by a quarter: its rows run along the source's columns."""
    pixels = _speckle((1, 32, 32))
    turned = Grid(UTM.crs, (0.0, 16.0, 320000.0, -16.0, 0.0, 640000.0), 32, 32)
    warped = warp.warp_s1(pixels, warp.sample(UTM, turned))
    np.testing.assert_allclose(warped[..., 0], pixels[0].T, atol=1e-5)
