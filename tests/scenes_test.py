"""Flood maps of small scenes made here: files, values, places, and what happens again or goes wrong."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from flood_distill import contract, scene_reader, scenes
from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import raster

WATER_DB, DRY_DB = -25.0, -12.0


class DarkIsWater:
    """Water where VH is below -20 dB: what a window shows does not depend on the window."""

    model, name, inputs, threshold, dataset, source = "path/of/model", "dark", "s1", 0.5, "", "synthetic"
    imagery = contract.SENTINEL

    def __init__(self):
        self.num_windows = 0

    def __call__(self, s1, s2=None):
        self.num_windows += len(s1)
        vh = s1[..., 1]
        return np.where(np.isfinite(s1).all(axis=-1), np.where(vh < -20, 0.9, 0.2), np.nan).astype(np.float32)


def write_scene(path, crs="EPSG:32630", size=(150, 210), nodata=np.nan, descriptions=("VV", "VH"), dtype="float32"):
    """A scene with a lake in the middle and a slanted edge of no data; 16 m pixels, or as many degrees."""
    height, width = size
    step = 16.0 if crs != "EPSG:4326" else 16.0 / 111320
    origin = (640000.0, 4224000.0) if crs != "EPSG:4326" else (-0.78, 38.12)
    rows, columns = np.mgrid[:height, :width]
    lake = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height / 4) ** 2
    vh = np.where(lake, WATER_DB, DRY_DB)
    s1 = np.stack([vh + 6, vh]).astype(dtype)
    s1[:, rows + columns < 40] = nodata
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 2, "dtype": dtype, "nodata": nodata}
    with rasterio.open(
        path, "w", crs=crs, transform=rasterio.Affine(step, 0, origin[0], 0, -step, origin[1]), **profile
    ) as dataset:
        dataset.write(s1)
        dataset.descriptions = descriptions
    return lake, rows + columns < 40


def predict(path, output_dir, **kwargs):
    options = {"window_px": 65, "overlap_px": 16, "batch_size": 3} | kwargs
    return scenes.predict_scenes(DarkIsWater(), [str(path)], output_dir, **options)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_aligned_scene_gives_its_own_pixels_back(tmp_path):
    lake, nodata = write_scene(tmp_path / "event.tif")
    assert predict(tmp_path / "event.tif", tmp_path / "out") == []
    names = ["event.json", "event_preview.png", "event_probability.tif", "event_water.geojson", "event_water.tif"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    np.testing.assert_array_equal(read(tmp_path / "out/event_water.tif"), np.where(nodata, 255, lake))
    np.testing.assert_array_equal(
        read(tmp_path / "out/event_probability.tif"), np.where(nodata, 255, np.where(lake, 90, 20))
    )
    provenance = json.loads((tmp_path / "out/event.json").read_text())
    assert provenance["share_nodata"] == pytest.approx(nodata.mean())
    assert provenance["share_water"] == pytest.approx(lake.mean())
    assert provenance["water_area_m2"] == lake.sum() * 16 * 16
    assert (provenance["model_source"], provenance["source"]) == ("synthetic", "real")
    features = json.loads((tmp_path / "out/event_water.geojson").read_text())["features"]
    assert sum(feature["properties"]["area_m2"] for feature in features) == lake.sum() * 16 * 16


def test_windows_and_batches_do_not_show(tmp_path):
    write_scene(tmp_path / "event.tif", crs="EPSG:4326")
    predict(tmp_path / "event.tif", tmp_path / "small")
    predict(tmp_path / "event.tif", tmp_path / "large", window_px=400, overlap_px=0, batch_size=1)
    for name in ("event_water.tif", "event_probability.tif"):
        np.testing.assert_array_equal(read(tmp_path / "small" / name), read(tmp_path / "large" / name))


@pytest.mark.parametrize("crs", ["EPSG:32630", "EPSG:4326", "EPSG:3857"])
def test_rasters_are_cloud_optimised_on_the_16_m_grid(tmp_path, crs):
    write_scene(tmp_path / "event.tif", crs=crs, size=(600, 620))
    assert predict(tmp_path / "event.tif", tmp_path, window_px=321) == []
    for name in ("event_water.tif", "event_probability.tif"):
        with rasterio.open(tmp_path / name) as dataset:
            assert dataset.crs.to_epsg() in (32629, 32630, 32631)
            assert dataset.transform.a == -dataset.transform.e == contract.PIXEL_SIZE_M
            assert (dataset.transform.c % 16, dataset.transform.f % 16) == (0, 0)
            assert (dataset.count, dataset.dtypes[0], dataset.nodata) == (1, "uint8", 255)
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.overviews(1)
            assert dataset.block_shapes == [(512, 512)]
    with rasterio.open(tmp_path / "event_water.tif") as dataset:
        assert dataset.colormap(1)[1] == scenes.WATER_COLORS[1]
        values = dataset.read(1)
    assert 0.10 < np.mean(values[values != 255]) < 0.25  # the lake: pi / 16 of the scene


def test_chip_gives_the_pixels_of_its_tile(tmp_path):
    """A 512 x 512 chip in degrees, as Sen1Floods11's: windows of the scene are windows of the converted tile."""
    path, step = tmp_path / "chip.tif", 8.983152841195215e-05
    generator = np.random.default_rng(0)
    s1 = generator.uniform(-30, 0, (2, 512, 512)).astype(np.float32)
    s1[:, :30, :200] = np.nan
    transform = rasterio.Affine(step, 0, -0.7818936232976315, 0, -step, 38.12881257139627)
    with rasterio.open(
        path, "w", driver="GTiff", width=512, height=512, count=2, dtype="float32", crs="EPSG:4326", transform=transform
    ) as dataset:
        dataset.write(s1)
    with raster.open_raster(path) as dataset:
        source = raster.grid_of(dataset)
        arguments = (source.crs, source.transform, source.width, source.height)
        tile_grid, scene_grid = grid_lib.tile_grid(*arguments), grid_lib.scene_grid(*arguments)
        tile = raster.read_s1(dataset, tile_grid)
        reader = scene_reader.SceneReader(dataset, scene_grid, 100)
        down = round((tile_grid.transform[5] - scene_grid.transform[5]) / -16)
        right = round((tile_grid.transform[2] - scene_grid.transform[2]) / 16)
        for row, column in ((0, 0), (90, 200), (220, 33)):
            window = reader.read(row + down, column + right)
            np.testing.assert_array_equal(window, tile[row : row + 100, column : column + 100])
        assert np.isfinite(tile).mean() > 0.7


def test_windows_without_radar_do_not_reach_the_network(tmp_path):
    path = tmp_path / "event.tif"
    write_scene(path)
    with rasterio.open(path, "r+") as dataset:
        values = dataset.read()
        values[:, :, 80:] = np.nan
        dataset.write(values)
    predictor = DarkIsWater()
    scenes.predict_scenes(predictor, [str(path)], tmp_path, window_px=40, overlap_px=0, batch_size=2)
    # 150 x 210 pixels are 4 x 6 windows; columns from 80 on begin with the third of starts 0, 34, 68, 102, ...
    assert predictor.num_windows == 4 * 3


def test_scene_without_any_radar_ends_as_no_data(tmp_path):
    path = tmp_path / "event.tif"
    write_scene(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((2, *dataset.shape), np.nan, np.float32))
    assert predict(path, tmp_path) == []
    assert (read(tmp_path / "event_water.tif") == 255).all()
    assert json.loads((tmp_path / "event.json").read_text())["share_water_of_valid"] is None


def test_other_nodata_value_and_band_order(tmp_path):
    lake, nodata = write_scene(tmp_path / "event.tif", nodata=-9999.0, descriptions=("VH", "VV"))
    with rasterio.open(tmp_path / "event.tif", "r+") as dataset:
        dataset.write(dataset.read()[::-1])
    assert predict(tmp_path / "event.tif", tmp_path) == []
    np.testing.assert_array_equal(read(tmp_path / "event_water.tif"), np.where(nodata, 255, lake))


def test_reference_water_tells_flood_from_lake(tmp_path):
    lake, nodata = write_scene(tmp_path / "event.tif")
    reference = np.zeros(lake.shape, np.uint8)
    reference[:, :100] = 1  # known water in the west,
    reference[:70] = 77  # unknown in the north
    with rasterio.open(tmp_path / "event.tif") as dataset:
        profile = dataset.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(tmp_path / "reference.tif", "w", **profile) as dataset:
        dataset.write(reference, 1)
    assert predict(tmp_path / "event.tif", tmp_path, reference_water=str(tmp_path / "reference.tif")) == []
    expected = np.where(nodata, 255, np.where(lake, 1, 0))
    expected[lake & (reference == 1)] = scenes.REFERENCE_WATER
    expected[lake & (reference == 77)] = 255
    np.testing.assert_array_equal(read(tmp_path / "event_flood.tif"), expected)
    assert {1, 2} <= set(expected.ravel())
    assert "event_flood.tif" in json.loads((tmp_path / "event.json").read_text())["outputs"]


def test_done_scenes_are_skipped_unless_overwritten_or_damaged(tmp_path):
    write_scene(tmp_path / "event.tif")
    predict(tmp_path / "event.tif", tmp_path)
    water = tmp_path / "event_water.tif"
    water.write_bytes(b"mine")
    predict(tmp_path / "event.tif", tmp_path)
    assert water.read_bytes() == b"mine"
    predict(tmp_path / "event.tif", tmp_path, overwrite=True)
    assert water.read_bytes() != b"mine"
    water.unlink()
    predict(tmp_path / "event.tif", tmp_path)
    assert water.exists()


def test_a_failed_scene_leaves_nothing_and_the_others_go_on(tmp_path):
    write_scene(tmp_path / "good.tif")
    write_scene(tmp_path / "truncated.tif", size=(300, 300))
    whole = (tmp_path / "truncated.tif").read_bytes()
    (tmp_path / "truncated.tif").write_bytes(whole[: len(whole) // 3])
    inputs = [str(tmp_path / name) for name in ("missing.tif", "truncated.tif", "good.tif")]
    failures = scenes.predict_scenes(DarkIsWater(), inputs, tmp_path / "out", window_px=65, overlap_px=16)
    assert len(failures) == 2
    assert "missing.tif: missing" in failures[0]
    assert "truncated.tif" in failures[1]
    assert all("\n" not in line for line in failures)
    assert {path.name.split(".")[0].split("_")[0] for path in (tmp_path / "out").iterdir()} == {"good"}


def failure(path, tmp_path):
    (line,) = predict(path, tmp_path / "out")
    return line


def test_what_is_no_scene_in_decibels_is_refused(tmp_path):
    path = tmp_path / "event.tif"
    write_scene(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(10 ** (dataset.read() / 10))
    assert "10 log10" in failure(path, tmp_path)
    write_scene(path, descriptions=("VV", "HH"))
    assert "VV and VH" in failure(path, tmp_path)
    write_scene(path, dtype="int16", nodata=-9999)
    assert "float32" in failure(path, tmp_path)
    write_scene(path, crs=CRS())
    assert "coordinate reference system" in failure(path, tmp_path)


class Teacher(DarkIsWater):
    inputs = contract.INPUT_S1_S2


class Otsu(DarkIsWater):
    model = "otsu"


@pytest.mark.parametrize(
    ("predictor", "inputs", "options", "message"),
    [
        (Teacher(), ["a.tif"], {}, "teacher"),
        (Otsu(), ["a.tif"], {}, "otsu"),
        (DarkIsWater(), ["a.tif", "b/a.tif"], {}, "several inputs"),
        (DarkIsWater(), ["a.tif"], {"overlap_px": 321}, "overlap_px"),
    ],
)
def test_impossible_orders_are_refused_before_any_work(tmp_path, predictor, inputs, options, message):
    with pytest.raises(UserError, match=message):
        scenes.predict_scenes(predictor, inputs, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_synthetic_scenes_are_marked(tmp_path):
    (tmp_path / "SYNTHETIC.json").write_text("{}")
    (tmp_path / "scenes").mkdir()
    write_scene(tmp_path / "scenes/event.tif")
    assert predict(tmp_path / "scenes/event.tif", tmp_path / "out") == []
    assert json.loads((tmp_path / "out/event.json").read_text())["source"] == "synthetic"


def test_percent_rounds_and_keeps_no_data():
    probability = np.array([0, 0.004, 0.006, 0.5, 0.996, 1, np.nan], np.float32)
    assert scenes.percent(probability).tolist() == [0, 0, 1, 50, 100, 100, 255]
