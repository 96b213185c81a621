"""The real client library against a local stand-in of the service: what is asked, and what bad answers lead to."""

import datetime
import json

import numpy as np
import pytest

pytest.importorskip("ee")
pytest.importorskip("shapely")

import earth_engine_server as service  # noqa: E402
import rasterio  # noqa: E402
from earth_engine_server import SETTINGS, TRAFFIC  # noqa: E402

from data_prep.earth_engine_curation import client, ndwi, pairing, settings, shapes, tiling  # noqa: E402
from data_prep.earth_engine_curation.events import Event  # noqa: E402
from data_prep.patience import Refused  # noqa: E402
from flood_distill.errors import UserError  # noqa: E402

pytest_plugins = ("earth_engine_fixtures",)
BOX = (90.0, 24.0, 90.5, 24.5)
EVENT = Event("A", service.utc("2020-07-14T00:00"), service.utc("2020-07-16T00:00"), shapes.box(*BOX))


def _tile(s1=("a",), s2=("b",)):
    place = tiling.places(shapes.box(90.2, 24.2, 90.201, 24.201))[0]
    collections = SETTINGS.s1_collection, SETTINGS.s2_collection
    scenes = [
        tuple(pairing.Scene(f"{collection}/{name}", EVENT.start, "group", EVENT.area, 5.0) for name in names)
        for collection, names in zip(collections, (s1, s2), strict=True)
    ]
    return pairing.TileSource(f"{place.cell}-group", "A", place, *scenes)


def test_requests_are_signed_and_name_the_project(server, connect):
    connect().list_s1(EVENT)
    paths = [path for path, _, _ in server.requests]
    assert paths[0] == "/token"
    assert paths[-1] == "/v1/projects/my-project/value:compute"
    headers = server.requests[-1][1]
    assert headers["authorization"] == f"Bearer {service.TOKEN}"
    assert headers["x-goog-user-project"] == "my-project"


def test_sentinel_1_listing_wants_iw_with_both_polarisations(server, connect):
    server.scenes = [
        service.s1_scene("first", "2020-07-14T00:00", BOX, orbit=7, orbitProperties_pass="DESCENDING"),
        service.s1_scene("late", "2020-07-16T00:00", BOX),
        service.s1_scene("elsewhere", "2020-07-14T12:00", (0, 0, 1, 1)),
        service.s1_scene("wave", "2020-07-14T12:00", BOX, instrumentMode="WV"),
        service.s1_scene("single", "2020-07-14T12:00", BOX, transmitterReceiverPolarisation=["VV"]),
        service.s1_scene("sea", "2020-07-14T12:00", BOX, transmitterReceiverPolarisation=["HH", "HV"]),
    ]
    (scene,) = connect().list_s1(EVENT)
    assert scene.scene_id == "COPERNICUS/S1_GRD/first"
    assert scene.time == EVENT.start
    assert scene.group == "S1A000007D"
    assert scene.area.bounds == pytest.approx(BOX)
    calls = service.nodes(server.bodies("value:compute")[0])
    (area,) = [arguments for name, arguments in calls if name == "GeometryConstructors.Polygon"]
    assert area["geodesic"] is False  # straight in degrees, as every other comparison here


def test_sentinel_2_listing_keeps_both_ends_and_tells_cloud_and_datatake(server, connect):
    take = "GS2A_20200714T043711_026434_N02.09"
    server.scenes = [
        service.s2_scene("start", "2020-07-14T00:00", BOX, cloud=70.0, datatake=take),
        service.s2_scene("end", "2020-07-15T00:00", BOX, datatake=take.replace("N02.09", "N05.00")),
        service.s2_scene("after", "2020-07-15T00:00:01", BOX),
    ]
    del server.scenes[1].properties["CLOUDY_PIXEL_PERCENTAGE"]
    start, end = connect().list_s2(EVENT, EVENT.start, EVENT.start + datetime.timedelta(days=1))
    assert (start.scene_id, start.cloud_percent) == ("COPERNICUS/S2_HARMONIZED/start", 70.0)
    assert end.scene_id.endswith("/end")
    assert np.isnan(end.cloud_percent)
    assert start.group == end.group == "GS2A_20200714T043711_026434"  # reprocessing makes no new datatake


def test_footprints_across_the_180th_meridian_and_images_without_one(server, connect):
    server.scenes = [service.s1_scene("a", "2020-07-14T12:00", (179.5, -17, 180.5, -16))]
    fiji = Event("Fiji", EVENT.start, EVENT.end, shapes.box(179.9, -17, -179.9, -16))
    (scene,) = connect().list_s1(fiji)
    assert scene.area.bounds == pytest.approx((-180, -17, 180, -16))
    assert scene.area.area == pytest.approx(1.0)
    assert client._s1_scene({"geometry": None, "properties": _s1_properties()}, "C").area.is_empty


def _s1_properties():
    scene = service.s1_scene("a", "2020-07-14T12:00", BOX)
    return scene.properties | {"scene": "a", "system:time_start": scene.milliseconds}


def test_tile_is_asked_for_on_its_grid_and_comes_with_masks(server, connect):
    tile = _tile()
    west, south, east, north = tile.place.area.bounds
    middle = (west + east) / 2
    server.scenes = [
        service.s1_scene("a", "2020-07-14T12:00", (west - 1, south - 1, middle, north + 1), vv=-9.5, vh=-16.25),
        service.s2_scene("b", "2020-07-14T12:00", BOX, b3=600.0, b8=200.0),
    ]
    served = connect().fetch(tile)
    (body,) = server.bodies("image:computePixels")
    left, top = tile.place.grid.transform[2], tile.place.grid.transform[5]
    assert body["grid"] == {
        "dimensions": {"width": 320, "height": 320},
        "affineTransform": dict(scaleX=16, shearX=0, translateX=left, shearY=0, scaleY=-16, translateY=top),
        "crsCode": "EPSG:32646",
    }
    assert body["fileFormat"] == "GEO_TIFF"
    assert body["bandIds"] == ["VV", "VH", "B2", "B3", "B4", "B8", "S1_VALID", "S2_VALID"]
    loads = [arguments["id"] for name, arguments in service.nodes(body) if name == "Image.load"]
    modes = [arguments["mode"] for name, arguments in service.nodes(body) if name == "Image.resample"]
    assert set(loads) == {"COPERNICUS/S1_GRD/a", "COPERNICUS/S2_HARMONIZED/b"}
    assert modes == ["bilinear"] * len(loads)  # every image, none of them by the nearest pixel
    assert served.shape == (8, 320, 320)
    assert served.dtype == np.float32
    assert set(np.unique(served[0])) == {np.float32(-9999), np.float32(-9.5)}  # explicit no-data, never 0 dB
    layers = ndwi.layers(served, 0.0)
    assert np.isfinite(layers.s1).mean() == pytest.approx(0.5, abs=0.01)
    assert layers.s1[0, 0].tolist() == [-9.5, -16.25]
    assert (layers.label == 1).all()  # (600 - 200) / 800


def test_frames_of_a_pass_fill_a_tile_together(server, connect):
    tile = _tile(s1=("west", "east"), s2=("cloudy", "clear"))
    west, south, east, north = tile.place.area.bounds
    middle = (west + east) / 2
    server.scenes = [
        service.s1_scene("west", "2020-07-14T12:00", (west - 1, south - 1, middle, north + 1), vv=-5.0),
        service.s1_scene("east", "2020-07-14T12:00", (middle, south - 1, east + 1, north + 1), vv=-6.0),
        service.s2_scene("cloudy", "2020-07-14T12:00", BOX, b3=5000.0),
        service.s2_scene("clear", "2020-07-14T12:00", BOX, b3=600.0),
    ]
    served = connect().fetch(tile)
    assert (served[0, 0, 0], served[0, 0, -1]) == (-5.0, -6.0)
    assert (served[3] == 600.0).all()  # the last image lies on top
    assert (served[6:] == 1).all()


def test_cloud_over_the_tile_asks_for_one_band_more(server, connect):
    tile = _tile()
    west, south, east, north = tile.place.area.bounds
    server.scenes = [
        service.s1_scene("a", "2020-07-14T12:00", BOX),
        service.s2_scene("b", "2020-07-14T12:00", BOX),
        service.cloud_scene("b", "2020-07-14T12:00", BOX, lambda xs, ys: np.where(ys > (south + north) / 2, 0.59, 0.6)),
    ]
    what = settings.Settings(**vars(SETTINGS) | {"cloud_over": "tile"})
    served = connect(what).fetch(tile)
    assert server.bodies("image:computePixels")[0]["bandIds"][-1] == "CLEAR"
    assert ndwi.layers(served, 0.0).cloud_percent == pytest.approx(50.0, abs=1.0)


@pytest.mark.parametrize("fault", ["429", "503", "cut", "short", "text"])
def test_passing_faults_are_asked_again(server, connect, fault):
    server.scenes = [service.s1_scene("a", "2020-07-14T12:00", BOX), service.s2_scene("b", "2020-07-14T12:00", BOX)]
    server.faults = [fault] * 3
    served = connect().fetch(_tile())
    bodies = server.bodies("image:computePixels")
    assert len(bodies) == 4
    assert all(body == bodies[0] for body in bodies)
    assert (served[6:] == 1).all()


@pytest.mark.parametrize("fault", ["429", "short"])
def test_fault_that_does_not_pass_is_given_up(server, connect, fault):
    server.scenes = [service.s1_scene("a", "2020-07-14T12:00", BOX), service.s2_scene("b", "2020-07-14T12:00", BOX)]
    server.faults = [fault] * 10
    with pytest.raises(Refused, match=r"429|truncated") as caught:
        connect().fetch(_tile())
    assert caught.value.exhausted
    assert len(server.bodies("image:computePixels")) == TRAFFIC.attempts


def test_refusal_is_not_asked_again(server, connect):
    server.faults = ["400"]
    with pytest.raises(Refused, match="fault 400") as caught:
        connect().fetch(_tile())
    assert caught.value.status == 400
    assert len(server.bodies("image:computePixels")) == 1


def test_lack_of_permission_ends_the_run_and_names_the_flag(server, connect):
    server.faults = ["403"]
    with pytest.raises(UserError, match="fault 403; is --project registered"):
        connect().fetch(_tile())


def test_listing_is_patient_too(server, connect):
    server.scenes = [service.s1_scene("a", "2020-07-14T12:00", BOX)]
    earth_engine = connect()
    server.listing_faults = ["429", "503"]
    assert len(earth_engine.list_s1(EVENT)) == 1
    server.listing_faults = ["400"]
    with pytest.raises(Refused, match="listing fault"):
        earth_engine.list_s1(EVENT)


def test_a_tile_of_another_place_is_refused(server, connect):
    tile = _tile()
    beside = tile.place.grid.window(0, 1, 320, 320)
    planes = np.zeros((8, 320, 320), np.float32)
    profile = dict(driver="GTiff", count=8, height=320, width=320, dtype="float32", crs=beside.crs)
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile, transform=rasterio.Affine(*beside.transform)) as dataset:
            dataset.write(planes)
        content = memory.read()
    client.decode(content, beside, 8)
    for grid, num_bands in ((tile.place.grid, 8), (beside, 9)):
        with pytest.raises(Refused, match="the answer has 8 band"):
            client.decode(content, grid, num_bands)


def test_credentials_and_project_that_do_not_work_are_one_line(server, connect, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--service_account_key=.*nowhere.json: is no key file"):
        client.EarthEngine(SETTINGS, TRAFFIC, "p", server.url, str(tmp_path / "nowhere.json"))
    (tmp_path / "bad.json").write_text(json.dumps({"type": "authorized_user"}))
    with pytest.raises(UserError, match=r"bad.json: is no key file"):
        client.EarthEngine(SETTINGS, TRAFFIC, "p", server.url, str(tmp_path / "bad.json"))
    for name in ("HOME", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UserError, match="no credentials; run `earthengine authenticate`"):
        client.EarthEngine(SETTINGS, TRAFFIC, "my-project", server.url)


def test_server_out_of_reach_is_one_line(connect, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"Earth Engine at http://127.0.0.1:\d+: .*\(3 attempts\)"):
        connect()


def test_pace_spaces_requests_evenly():
    now = [100.0]
    waits = []

    def sleep(seconds):
        waits.append(round(seconds, 6))
        now[0] += seconds

    pace = client.Pace(600, clock=lambda: now[0], sleep=sleep)  # one in 0.1 seconds
    for _ in range(3):
        pace.wait()
    now[0] += 5.0
    pace.wait()
    assert waits == [0.0, 0.1, 0.1, 0.0]
