"""No seams: where windows lie does not show in a map, whether a scene is shifted or cut."""

import numpy as np
import pytest
import rasterio
import scenes_test
import scipy.ndimage

from flood_distill import scene_pipeline, scenes
from flood_distill.geo import windows

SIZE, WINDOW, OVERLAP = 300, 128, 64
ALLOWED = 0.005  # of the pixels near the former edges


class Context(scenes_test.DarkIsWater):
    """Looks 12 pixels around each pixel; what lies outside of the window is land to it, as to a padded network."""

    def __call__(self, s1, s2=None):
        seen_db = np.where(np.isfinite(s1[..., 1]), s1[..., 1], scenes_test.DRY_DB)
        mean_db = scipy.ndimage.uniform_filter(seen_db, (0, 25, 25), mode="constant", cval=scenes_test.DRY_DB)
        return np.where(np.isfinite(s1[..., 1]), 1 / (1 + np.exp(mean_db + 18)), np.nan).astype(np.float32)


class Phase(scenes_test.DarkIsWater):
    """Looks at nothing but where in its window a pixel lies, modulo 16: the worst of a network of stride 16."""

    def __call__(self, s1, s2=None):
        rows, cols = np.mgrid[: s1.shape[1], : s1.shape[2]]
        return np.broadcast_to((rows + 2 * cols) % 16 < 8, s1.shape[:3]).astype(np.float32)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Lakes of all sizes under speckle."""
    path = tmp_path_factory.mktemp("scene") / "whole.tif"
    scenes_test.write_scene(path, size=(SIZE, SIZE), nodata=None)
    generator = np.random.default_rng(0)
    wet = scipy.ndimage.gaussian_filter(generator.normal(size=(SIZE, SIZE)), 12) > 0
    vh = np.where(wet, scenes_test.WATER_DB, scenes_test.DRY_DB) + generator.normal(0, 2, (SIZE, SIZE))
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.stack([vh + 6, vh]).astype(np.float32))
    return path


def predicted(path, rows, cols, folder, overlap_px=OVERLAP, network=Context):
    """The mask of a part of the scene that is a file of its own."""
    with rasterio.open(path) as dataset:
        window = rasterio.windows.Window.from_slices(rows, cols, height=SIZE, width=SIZE)
        part = dataset.read(window=window)
        profile = dataset.profile | {"height": part.shape[1], "width": part.shape[2]}
        profile["transform"] = dataset.window_transform(window)
    folder.mkdir()
    with rasterio.open(folder / "part.tif", "w", **profile) as dataset:
        dataset.write(part)
    sizes = {"window_px": WINDOW, "overlap_px": overlap_px}
    assert scenes.predict_scenes(network(), [str(folder / "part.tif")], folder, **sizes) == (1, [])
    return scenes_test.read(folder / "part_water.tif")


def near_edges(overlap_px):
    """Pixels within 16 of the middle of what two neighbouring windows share; the whole scene begins on the lattice."""
    starts = sorted({row for row, _ in windows.origins(SIZE, SIZE, WINDOW, overlap_px, scene_pipeline.LATTICE_PX)})
    middles = [(first + WINDOW + second) / 2 for first, second in zip(starts[:-1], starts[1:], strict=True)]
    near = np.min(np.abs(np.arange(SIZE)[:, np.newaxis] - middles), axis=1) <= 16
    return near[:, np.newaxis] | near


def shifted_share(scene, folder, shift, overlap_px):
    whole = predicted(scene, slice(0, SIZE), slice(0, SIZE), folder / "whole", overlap_px)
    part = predicted(scene, slice(shift, SIZE), slice(shift, SIZE), folder / "part", overlap_px)
    inner = np.zeros((SIZE, SIZE), bool)
    inner[shift + WINDOW // 2 :, shift + WINDOW // 2 :] = True  # the part's own rim sees less
    inner &= near_edges(overlap_px)
    differs = np.zeros((SIZE, SIZE), bool)
    differs[shift:, shift:] = whole[shift:, shift:] != part
    return differs[inner].mean()


@pytest.mark.parametrize("shift", [1, 17, 40, 72])
def test_a_shifted_scene_has_the_same_map_at_the_former_edges(scene, tmp_path, shift):
    assert shifted_share(scene, tmp_path, shift, OVERLAP) <= ALLOWED


def test_the_test_above_sees_the_seams_of_windows_that_do_not_overlap(scene, tmp_path):
    assert shifted_share(scene, tmp_path, 72, 0) > 4 * ALLOWED


def test_a_network_sees_a_place_in_the_same_phase_of_its_strides_in_every_scene(scene, tmp_path):
    whole = predicted(scene, slice(0, SIZE), slice(0, SIZE), tmp_path / "whole", network=Phase)
    part = predicted(scene, slice(45, SIZE), slice(7, SIZE), tmp_path / "part", network=Phase)
    assert 0.4 < (whole == 1).mean() < 0.6
    np.testing.assert_array_equal(part, whole[45:, 7:])


def test_a_scene_cut_in_two_and_merged_is_the_whole_away_from_the_cut(scene, tmp_path):
    whole = predicted(scene, slice(0, SIZE), slice(0, SIZE), tmp_path / "whole")
    cut = 160
    parts = [
        predicted(scene, slice(*rows), slice(0, SIZE), tmp_path / f"{rows[0]}") for rows in ((0, cut), (cut, SIZE))
    ]
    differs = np.concatenate(parts) != whole
    away = np.abs(np.arange(SIZE) - cut) > OVERLAP // 2
    assert differs[away].mean() <= ALLOWED
    assert differs[~away].any()  # what lies beyond the cut was part of the picture
