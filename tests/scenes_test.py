"""Flood maps of small scenes made here: files, values, places, and what happens again or goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pystac
import pytest
import rasterio
import rio_cogeo
import shapely
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from flood_distill import contract, scene_inputs, scene_maps, scene_reader, scenes
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


def predict(path, output_dir, overwrite=False, window_px=65, overlap_px=16, batch_size=3, numbers=None, **options):
    sizes = {"window_px": window_px, "overlap_px": overlap_px, "batch_size": batch_size} | (numbers or {})
    _, failures = scenes.predict_scenes(
        DarkIsWater(), [str(path)], output_dir, scenes.Options(**options), overwrite=overwrite, **sizes
    )
    return failures


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_aligned_scene_gives_its_own_pixels_back(tmp_path):
    lake, nodata = write_scene(tmp_path / "event.tif")
    assert predict(tmp_path / "event.tif", tmp_path / "out") == []
    endings = ("preview.png", "probability.qml", "probability.tif", "stac.json", "vv.tif", "water.geojson", "water.tif")
    names = ["event.json", *(f"event_{ending}" for ending in endings)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    np.testing.assert_array_equal(read(tmp_path / "out/event_water.tif"), np.where(nodata, 255, lake))
    np.testing.assert_array_equal(
        read(tmp_path / "out/event_probability.tif"), np.where(nodata, 255, np.where(lake, 90, 20))
    )
    provenance = json.loads((tmp_path / "out/event.json").read_text())
    assert provenance["share_nodata"] == pytest.approx(nodata.mean())
    assert provenance["share_water"] == pytest.approx(lake.mean())
    # 140 km east of the central meridian a metre of UTM is within 0.03 % of one on the ground.
    assert provenance["area_km2"]["water"] == pytest.approx(lake.sum() * 16 * 16 / 1e6, rel=6e-4)
    assert (provenance["model_source"], provenance["source"]) == ("synthetic", "real")
    features = json.loads((tmp_path / "out/event_water.geojson").read_text())["features"]
    assert sum(feature["properties"]["area_m2"] for feature in features) == pytest.approx(
        provenance["area_km2"]["water"] * 1e6, rel=1e-5
    )
    np.testing.assert_array_equal(
        read(tmp_path / "out/event_vv.tif"),
        np.where(nodata, 255, np.where(lake, 13, 178)),  # -19 and -6 of -20..0 dB
    )


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
    for name in ("event_water.tif", "event_probability.tif", "event_vv.tif"):
        assert rio_cogeo.cog_validate(tmp_path / name, strict=True) == (True, [], [])
        with rasterio.open(tmp_path / name) as dataset:
            assert dataset.crs.to_epsg() in (32629, 32630, 32631)
            assert dataset.transform.a == -dataset.transform.e == contract.PIXEL_SIZE_M
            assert (dataset.transform.c % 16, dataset.transform.f % 16) == (0, 0)
            assert (dataset.count, dataset.dtypes[0], dataset.nodata) == (1, "uint8", 255)
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.overviews(1)
            assert dataset.block_shapes == [(512, 512)]
    with rasterio.open(tmp_path / "event_water.tif") as dataset:
        assert dataset.colormap(1)[1] == scene_maps.WATER_COLORS[1]
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
    (scene,) = scene_inputs.expand([str(path)])
    with raster.open_raster(path) as dataset, scene_reader.open_scene(scene) as reader:
        source = raster.grid_of(dataset)
        scene_grid = grid_lib.scene_grid(source)
        tile_grid = grid_lib.tile_grid(source.crs, source.transform, source.width, source.height)
        tile = raster.read_s1(dataset, tile_grid)
        down = round((tile_grid.transform[5] - scene_grid.transform[5]) / -16)
        right = round((tile_grid.transform[2] - scene_grid.transform[2]) / 16)
        for row, column in ((0, 0), (90, 200), (220, 33)):
            window = reader.read_grid(scene_grid.window(row + down, column + right, 100, 100))
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
    # Windows begin at rows 0, 32, 64, 96, 128; of the columns 0, 32, 64, 96, ... the first three see radar.
    assert predictor.num_windows == 5 * 3


def test_what_a_kill_after_the_last_name_leaves_is_removed_with_the_next_call(tmp_path):
    write_scene(tmp_path / "event.tif")
    assert predict(tmp_path / "event.tif", tmp_path / "out") == []
    (tmp_path / "out/.event.partial").mkdir()
    assert predict(tmp_path / "event.tif", tmp_path / "out") == []
    assert not (tmp_path / "out/.event.partial").exists()


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
    expected[lake & (reference == 1)] = scene_maps.REFERENCE_WATER
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
    num_scenes, failures = scenes.predict_scenes(DarkIsWater(), inputs, tmp_path / "out", window_px=65, overlap_px=16)
    assert (num_scenes, len(failures)) == (3, 2)
    assert "missing.tif: missing" in failures[0]
    assert "truncated.tif" in failures[1]
    assert all("\n" not in line for line in failures)
    assert {path.name.split(".")[0].split("_")[0] for path in (tmp_path / "out").iterdir()} == {"good"}


BAD_SCENES = {
    "one_band.tif": "1 band.*--input=VV.tif,VH.tif",
    "other_bands.tif": "2 band.*VV.*HH.*VV and VH",
    "no_crs.tif": "no coordinate reference system",
    "no_data.tif": "no pixel has a value",
    "empty.tif": "unreadable or truncated",
    "truncated.tif": "truncated",
    "text.tif": "unreadable or truncated",
    "amplitude.tif": "int16.*float32",
    "linear.tif": "no backscatter below 0 dB.*--input_unit=linear",
    "endless.tif": "pixels of maps need up to 2.. GB in .* where 100 are free",
    "nowhere.tif": "cannot be projected|outside of UTM",
    "missing.tif": "missing",
}


def write_bad_scenes(folder):
    for name in BAD_SCENES:
        write_scene(folder / name, size=(60, 70))
    with rasterio.open(folder / "one_band.tif") as dataset:
        profile, s1 = dataset.profile, dataset.read()
    with rasterio.open(folder / "one_band.tif", "w", **(profile | {"count": 1})) as dataset:
        dataset.write(s1[:1])
    write_scene(folder / "other_bands.tif", descriptions=("VV", "HH"))
    write_scene(folder / "no_crs.tif", crs=CRS())
    with rasterio.open(folder / "no_data.tif", "r+") as dataset:
        dataset.write(np.full((2, 60, 70), np.nan, np.float32))
    (folder / "empty.tif").write_bytes(b"")
    whole = (folder / "truncated.tif").read_bytes()
    (folder / "truncated.tif").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "text.tif").write_text("no raster")
    write_scene(folder / "amplitude.tif", dtype="int16", nodata=-9999)
    with rasterio.open(folder / "linear.tif", "r+") as dataset:
        dataset.write(10 ** (dataset.read() / 10))
    endless = profile | {"width": 200_000, "height": 200_000, "sparse_ok": True, "bigtiff": "yes", "tiled": True}
    with rasterio.open(folder / "endless.tif", "w", **(endless | {"blockxsize": 16384, "blockysize": 16384})):
        pass
    nowhere = profile | {"crs": "EPSG:4326", "transform": rasterio.Affine(1, 0, 0, 0, -1, 500)}
    with rasterio.open(folder / "nowhere.tif", "w", **nowhere) as dataset:
        dataset.write(s1)
    (folder / "missing.tif").unlink()


def test_bad_scenes_are_one_clear_line_each_and_the_good_one_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 100e9}))
    write_bad_scenes(tmp_path)
    write_scene(tmp_path / "zebra.tif", size=(60, 70))
    inputs = [str(tmp_path / name) for name in (*BAD_SCENES, "zebra.tif")]
    num_scenes, failures = scenes.predict_scenes(DarkIsWater(), inputs, tmp_path / "out", window_px=65, overlap_px=16)
    assert num_scenes == len(failures) + 1 == len(BAD_SCENES) + 1
    for line, (name, message) in zip(failures, BAD_SCENES.items(), strict=True):
        assert re.search(f"{name}.*({message})", line), line
        assert "\n" not in line
    assert {path.name.split(".")[0].split("_")[0] for path in (tmp_path / "out").iterdir()} == {"zebra"}


@pytest.mark.parametrize("size", [(1, 1), (10, 5000), (64, 1), (3, 3)])
def test_odd_sizes_are_good_scenes(tmp_path, size):
    path = tmp_path / "odd.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=size[0],
        width=size[1],
        count=2,
        dtype="float32",
        crs="EPSG:32630",
        transform=rasterio.Affine(16, 0, 640000, 0, -16, 4224000),
    ) as dataset:
        dataset.write(np.full((2, *size), WATER_DB, np.float32))
    assert predict(path, tmp_path) == []
    np.testing.assert_array_equal(read(tmp_path / "odd_water.tif"), np.ones(size))


def test_a_pixel_of_ten_metres_that_holds_no_centre_of_the_grid_is_no_error(tmp_path):
    path = tmp_path / "odd.tif"
    write_scene(path, size=(1, 1))
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((2, 1, 1), WATER_DB, np.float32))
        dataset.transform = rasterio.Affine(5, 0, 640000, 0, -5, 4224000)
    assert predict(path, tmp_path) == []
    assert read(tmp_path / "odd_water.tif").tolist() == [[255]]


def same_maps(first, second):
    for ending in ("water", "probability", "vv"):
        np.testing.assert_array_equal(read(f"{first}_{ending}.tif"), read(f"{second}_{ending}.tif"))


def split_bands(path, names):
    with rasterio.open(path) as dataset:
        for name, band in zip(names, dataset.read(), strict=True):
            with rasterio.open(path.with_name(name), "w", **(dataset.profile | {"count": 1})) as single:
                single.write(band, 1)


def test_two_files_two_units_and_any_order_give_one_map(tmp_path):
    write_scene(tmp_path / "event.tif")
    assert predict(tmp_path / "event.tif", tmp_path / "out") == []
    split_bands(tmp_path / "event.tif", ["S1_VV_event.tif", "S1_VH_event.tif"])
    # The names of the files tell, not their order.
    assert predict(f"{tmp_path}/S1_VH_event.tif,{tmp_path}/S1_VV_event.tif", tmp_path / "out") == []
    same_maps(tmp_path / "out/event", tmp_path / "out/S1_event")
    # As patterns.
    assert predict(f"{tmp_path}/*_VV_*.tif,{tmp_path}/*_VH_*.tif", tmp_path / "again") == []
    same_maps(tmp_path / "out/event", tmp_path / "again/S1_event")
    with rasterio.open(tmp_path / "event.tif") as dataset:
        profile, s1 = dataset.profile, dataset.read()
    with rasterio.open(tmp_path / "power.tif", "w", **(profile | {"count": 3, "dtype": "float64"})) as dataset:
        power = 10.0 ** (s1.astype(np.float64) / 10)
        power[:, np.isnan(s1[0])] = 0  # as the border of a product without noise
        dataset.write(np.stack([power[1], np.full_like(power[0], 33), power[0]]))
    assert predict(tmp_path / "power.tif", tmp_path / "out", input_unit="linear", bands=("VH", "angle", "VV")) == []
    same_maps(tmp_path / "out/event", tmp_path / "out/power")
    assert "--input_unit=db" in predict(tmp_path / "event.tif", tmp_path / "no", input_unit="linear")[0]
    assert "3 band(s), but --bands=VV,VH" in predict(tmp_path / "power.tif", tmp_path / "no", bands=("VV", "VH"))[0]


def test_files_of_two_grids_are_no_scene(tmp_path):
    write_scene(tmp_path / "event.tif")
    split_bands(tmp_path / "event.tif", ["VV.tif", "x.tif"])
    write_scene(tmp_path / "other.tif", size=(150, 200))
    split_bands(tmp_path / "other.tif", ["y.tif", "VH.tif"])
    (line,) = predict(f"{tmp_path}/VV.tif,{tmp_path}/VH.tif", tmp_path)
    assert "different grids" in line


def test_a_mask_inside_the_file_is_no_data(tmp_path):
    lake, nodata = write_scene(tmp_path / "event.tif", nodata=None)
    with rasterio.open(tmp_path / "event.tif", "r+") as dataset:
        values = dataset.read()
        values[:, nodata] = DRY_DB
        dataset.write(values)
        dataset.write_mask(~nodata)
    assert predict(tmp_path / "event.tif", tmp_path) == []
    np.testing.assert_array_equal(read(tmp_path / "event_water.tif"), np.where(nodata, 255, lake))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # before the points are written
def test_control_points_place_a_scene_as_a_transform_does(tmp_path):
    """A scene turned by half in its file, as on an ascending pass, with 5 x 5 points in degrees."""
    lake, nodata = write_scene(tmp_path / "event.tif")
    assert predict(tmp_path / "event.tif", tmp_path) == []
    with rasterio.open(tmp_path / "event.tif") as dataset:
        s1, place = dataset.read(), raster.grid_of(dataset)
    height, width = lake.shape
    rows, cols = (steps.ravel() for steps in np.meshgrid(np.linspace(0, height, 5), np.linspace(0, width, 5)))
    points = np.stack(grid_lib.project(place.crs, "EPSG:4326", *place.points(rows, cols)), axis=1)
    with rasterio.open(
        tmp_path / "radar.tif", "w", driver="GTiff", height=height, width=width, count=2, dtype="float32"
    ) as dataset:
        dataset.write(s1[:, ::-1, ::-1])
        dataset.gcps = (
            [
                GroundControlPoint(height - row, width - col, x, y)
                for row, col, (x, y) in zip(rows, cols, points, strict=True)
            ],
            CRS.from_epsg(4326),
        )
    assert predict(tmp_path / "radar.tif", tmp_path) == []
    with rasterio.open(tmp_path / "radar_water.tif") as dataset:  # a pixel larger where the outline is a micrometre off
        window = dataset.window(*rasterio.open(tmp_path / "event_water.tif").bounds)
        actual = dataset.read(1, window=window.round())
    assert actual.shape == lake.shape
    assert (actual != np.where(nodata, 255, lake)).mean() < 1e-3
    assert "ground control points" in predict(tmp_path / "radar.tif", tmp_path / "own", output_grid="input")[0]


def write_degrees(path, west, longitudes=0, **kwargs):
    lake, nodata = write_scene(path, crs="EPSG:4326", **kwargs)
    with rasterio.open(path, "r+") as dataset:
        a, _, _, _, e, _ = dataset.transform[:6]
        dataset.transform = rasterio.Affine(a, 0, west + longitudes, 0, e, 10.0)
    return lake, nodata


@pytest.mark.parametrize("turn", [0, 360])
def test_a_scene_across_the_antimeridian_is_whole(tmp_path, turn):
    west = 180 - 105 * 16 / 111320  # its middle
    lake, nodata = write_degrees(tmp_path / "event.tif", west - turn)
    write_degrees(
        tmp_path / "away.tif", 3 - 105 * 16 / 111320
    )  # the same around 3 E, a central meridian as 177 E is not
    assert predict(tmp_path / "event.tif", tmp_path) == []
    assert predict(tmp_path / "away.tif", tmp_path) == []
    areas = [json.loads((tmp_path / f"{stem}.json").read_text())["area_km2"] for stem in ("event", "away")]
    assert areas[0]["water"] == pytest.approx(areas[1]["water"], rel=0.01)
    assert areas[0]["dry"] == pytest.approx(areas[1]["dry"], rel=0.01)
    item = json.loads((tmp_path / "event_stac.json").read_text())
    assert item["geometry"]["type"] == "MultiPolygon"
    assert 179.9 < item["bbox"][0] < 180
    assert -180 < item["bbox"][2] < -179.9
    geometry = json.loads((tmp_path / "event_water.geojson").read_text())["features"][0]["geometry"]
    assert {round(np.array(part[0])[:, 0].mean()) for part in geometry["coordinates"]} == {180, -180}


def test_maps_on_the_scenes_own_grid(tmp_path):
    """Turned by 30 degrees, 10 m: every pixel has the lake's class but for its shore and the rim."""
    path = tmp_path / "event.tif"
    lake, nodata = write_scene(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = (
            rasterio.Affine.translation(640000, 4224000) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(10, -10)
        )
        place = dataset.transform
    assert predict(path, tmp_path, output_grid="input") == []
    with rasterio.open(tmp_path / "event_water.tif") as dataset:
        assert dataset.transform.almost_equals(place)
        mask = dataset.read(1)
    assert mask.shape == lake.shape
    assert (mask[nodata] == 255).all()
    inner = np.zeros(lake.shape, bool)
    inner[4:-4, 4:-4] = True
    inner &= ~np.isin(np.add.outer(np.arange(150), np.arange(210)), range(36, 46))
    assert (mask[inner & ~nodata] != lake[inner & ~nodata]).mean() < 0.02
    assert rio_cogeo.cog_validate(tmp_path / "event_water.tif", strict=True)[0]
    area_km2 = json.loads((tmp_path / "event.json").read_text())["area_km2"]["water"]
    assert area_km2 == pytest.approx((mask == 1).sum() * 100 / 1e6, rel=1e-3)


def test_own_grid_and_model_grid_are_one_where_they_coincide(tmp_path):
    write_scene(tmp_path / "event.tif", size=(300, 210))
    assert predict(tmp_path / "event.tif", tmp_path / "model") == []
    # The scene's grid has the name EPSG:32630 and whole multiples of 16 m: the second pass interpolates nothing.
    assert predict(tmp_path / "event.tif", tmp_path / "input", output_grid="input") == []
    same_maps(tmp_path / "model/event", tmp_path / "input/event")


def test_another_resolution_and_projection(tmp_path):
    lake, _ = write_scene(tmp_path / "event.tif")
    assert predict(tmp_path / "event.tif", tmp_path, resolution_m=32.0, crs="EPSG:3857") == []
    with rasterio.open(tmp_path / "event_water.tif") as dataset:
        assert (dataset.crs.to_epsg(), dataset.transform.a) == (3857, 32)
    # A metre of Web Mercator at 38 N is 0.62 m^2 on the ground: counting pixels would give 1.6 times the area.
    area_km2 = json.loads((tmp_path / "event.json").read_text())["area_km2"]["water"]
    assert area_km2 == pytest.approx(lake.sum() * 256 / 1e6, rel=0.02)
    with pytest.raises(UserError, match="--crs=EPSG:4326: not a map projection in metres"):
        predict(tmp_path / "event.tif", tmp_path, crs="EPSG:4326")
    with pytest.raises(UserError, match="--resolution_m=0"):
        predict(tmp_path / "event.tif", tmp_path, resolution_m=0)


def test_stac_item_and_polygons_are_valid(tmp_path):
    lake, _ = write_scene(tmp_path / "S1A_IW_GRDH_1SDV_20180924T061132_map.tif")
    (stem,) = [path.stem for path in tmp_path.iterdir()]
    assert predict(tmp_path / f"{stem}.tif", tmp_path / "out") == []
    item = json.loads((tmp_path / f"out/{stem}_stac.json").read_text())
    assert pystac.Item.from_dict({**item, "stac_extensions": []}).validate()  # those of extensions are on the web
    assert item["properties"]["datetime"] == "2018-09-24T06:11:32Z"
    hrefs = {asset["href"].removeprefix("./") for asset in item["assets"].values()}
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert hrefs == there - {f"{stem}_stac.json", f"{stem}_probability.qml"}
    collection = shapely.from_geojson((tmp_path / f"out/{stem}_water.geojson").read_text())
    assert shapely.is_valid(collection)
    assert shapely.box(*item["bbox"]).buffer(1e-6).contains(collection)


def test_flips_are_averaged(tmp_path):
    """A predictor that sees only where in the window a pixel lies: its flips cancel."""

    class Ramp(DarkIsWater):
        def __call__(self, s1, s2=None):
            ramp = np.linspace(0, 1, s1.shape[2], dtype=np.float32)
            return np.broadcast_to(ramp, s1.shape[:3]).copy()

    write_scene(tmp_path / "event.tif", nodata=None)
    scenes.predict_scenes(
        Ramp(), [str(tmp_path / "event.tif")], tmp_path, window_px=65, average_flips=True, overlap_px=0
    )
    assert (read(tmp_path / "event_probability.tif") == 50).all()


KILLED = """
import sys
from pathlib import Path
import scenes_test
from flood_distill import scenes
print("ready", flush=True)
scenes.predict_scenes(
    scenes_test.DarkIsWater(), sys.argv[2:], sys.argv[1], window_px=33, overlap_px=8, batch_size=1, overwrite=True
)
"""


def test_killed_at_any_moment_leaves_no_partial_file_under_a_final_name(tmp_path):
    inputs = [str(tmp_path / f"{name}.tif") for name in ("a", "b", "c")]
    for path in inputs:
        write_scene(path, size=(300, 300))
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", KILLED, str(out), *inputs]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=os.path.dirname(__file__)
    )
    process.stdout.readline()
    while process.poll() is None:
        finished = {path for path in out.glob("*.tif")}
        if finished or process.poll() is not None:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in out.glob("*.tif"):
        assert rio_cogeo.cog_validate(path, strict=True)[0]
        read(path)
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    for path in inputs:
        assert predict(path, out) == []
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert all(scenes.is_done(out, stem) for stem in "abc")


def test_a_scene_that_another_process_makes_is_left_to_it(tmp_path):
    write_scene(tmp_path / "event.tif")
    (tmp_path / ".event.partial").mkdir()
    with scenes._work_folder(tmp_path, "event"):
        assert "another process" in predict(tmp_path / "event.tif", tmp_path)[0]
    assert predict(tmp_path / "event.tif", tmp_path) == []


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
    assert scene_maps.percent(probability).tolist() == [0, 0, 1, 50, 100, 100, 255]
