import subprocess
import sys

import numpy as np
import pytest
import rasterio

from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import raster, warp
from flood_distill.geo.grid import Grid

GRID = Grid("EPSG:32631", (16.0, 0.0, 320000.0, 0.0, -16.0, 640000.0), 48, 40)
S1 = raster.Layer("S1", 2, ("float32",), (40, 48))


def _write(path, array=None, grid=GRID, **kwargs):
    array = np.random.default_rng(0).normal(-12, 4, (*grid.shape, 2)).astype(np.float32) if array is None else array
    raster.write_geotiff(path, array, grid, np.nan, **({"cog": False} | kwargs))
    return path


@pytest.mark.parametrize("cog", [True, False])
def test_round_trip_of_pixels_place_no_data_and_colours(tmp_path, cog):
    mask = np.random.default_rng(0).integers(0, 2, GRID.shape).astype(np.uint8)
    colours = {0: (10, 120, 10), 1: (0, 0, 255), 255: (0, 0, 0)}
    raster.write_geotiff(tmp_path / "m.tif", mask, GRID, 255, colours, cog=cog, tags={"MODEL": "student"})
    with raster.open_raster(tmp_path / "m.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), mask)
        assert raster.grid_of(dataset) == GRID
        assert dataset.nodata == 255
        assert {value: dataset.colormap(1)[value][:3] for value in colours} == colours
        assert dataset.tags()["MODEL"] == "student"
        assert (dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG") == cog
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = _write(tmp_path / "x.tif")
    before = path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(raster.os, "replace", fail)
    with pytest.raises(UserError, match=r"x\.tif: cannot be written .*No space left"):
        _write(path, np.zeros((40, 48), np.float32))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["x.tif"]


def test_a_file_that_did_not_reach_the_disk_is_not_renamed(tmp_path):
    """A disk that is full when the file is closed; stood in for by a limit on the size of files, in another process."""
    script = f"""
import resource, signal, sys
import numpy as np
from flood_distill.geo import raster
from flood_distill.geo.grid import Grid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
grid = Grid("EPSG:32631", (16.0, 0.0, 320000.0, 0.0, -16.0, 640000.0), 200, 200)
noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for cog in (True, False):
    try:
        raster.write_geotiff({str(tmp_path / "x.tif")!r}, noise, grid, 255, cog=cog)
    except raster.UserError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("x.tif: cannot be written") == 2
    assert list(tmp_path.iterdir()) == []


def test_write_into_a_missing_folder_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"no/x\.tif: cannot be written"):
        _write(tmp_path / "no" / "x.tif")
    with pytest.raises(ValueError, match="3x3"):
        _write(tmp_path / "x.tif", np.zeros((3, 3), np.uint8))


def test_missing_unreadable_and_placeless_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.tif: missing"), raster.open_raster(tmp_path / "none.tif"):
        pass
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(UserError, match=r"text\.tif: unreadable"), raster.open_raster(tmp_path / "text.tif"):
        pass
    with rasterio.open(
        tmp_path / "plain.tif",
        "w",
        driver="GTiff",
        width=4,
        height=4,
        count=1,
        dtype="uint8",
        transform=rasterio.Affine(1, 0, 9, 0, -1, 9),
    ):
        pass
    with pytest.raises(UserError, match=r"plain\.tif: .*reference"), raster.open_raster(tmp_path / "plain.tif"):
        pass


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("cog", [True, False])
def test_truncated_file_is_named(tmp_path, share, cog):
    path = _write(tmp_path / "cut.tif", cog=cog)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"cut\.tif: (unreadable or )?truncated"), raster.open_raster(path) as dataset:
        raster.read(dataset, (1, 2))


def test_every_fault_of_a_header_is_told(tmp_path):
    moved = Grid(GRID.crs, (16.0, 0.0, 320016.0, 0.0, -16.0, 640000.0), 48, 40)
    with raster.open_raster(_write(tmp_path / "good.tif")) as dataset:
        assert raster.faults(dataset, S1, GRID) == []
        assert raster.faults(dataset, S1, moved) == ["its grid (crs or transform) is not that of the other layers"]
    wrong = np.zeros((39, 48, 3), np.int16)
    raster.write_geotiff(tmp_path / "bad.tif", wrong, Grid(GRID.crs, GRID.transform, 48, 39), None, cog=False)
    with raster.open_raster(tmp_path / "bad.tif") as dataset:
        assert raster.faults(dataset, S1, GRID) == [
            "39x48 pixels, not 40x48",
            "3 band(s), not 2",
            "dtype int16, not float32",
        ]


def test_windowed_reading_gives_the_pixels_of_whole_reading(tmp_path):
    target = grid_lib.tile_grid(GRID.crs, GRID.transform, GRID.width, GRID.height).window(150, 145, 17, 23)
    target = Grid(target.crs, (10.0, 0.0, target.transform[2] + 3, 0.0, -10.0, target.transform[5] + 1), 23, 17)
    with raster.open_raster(_write(tmp_path / "s1.tif")) as dataset:
        whole = warp.warp_s1(raster.read(dataset, (1, 2)), warp.sample(GRID, target))
        assert np.isfinite(whole).any()
        np.testing.assert_array_equal(raster.read_s1(dataset, target), whole)
        far = Grid(target.crs, (16.0, 0.0, 0.0, 0.0, -16.0, 0.0), 5, 5)
        assert np.isnan(raster.read_s1(dataset, far)).all()


def test_readers_of_reflectance_and_labels(tmp_path):
    s2 = np.random.default_rng(1).integers(1, 3000, (*GRID.shape, 13)).astype(np.int16)
    labels = np.random.default_rng(1).integers(-1, 2, GRID.shape).astype(np.int16)
    raster.write_geotiff(tmp_path / "s2.tif", s2, GRID, 0, cog=False)
    raster.write_geotiff(tmp_path / "label.tif", labels, GRID, None, cog=False)
    with raster.open_raster(tmp_path / "s2.tif") as dataset:
        np.testing.assert_array_equal(raster.read_s2(dataset, GRID), s2[..., [1, 2, 3, 7]])  # B2, B3, B4, B8
    with raster.open_raster(tmp_path / "label.tif") as dataset:
        np.testing.assert_array_equal(raster.read_labels(dataset, GRID), labels)
