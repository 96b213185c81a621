"""The page of maps: what it lists, the tiles it serves, and how it looks in a browser."""

import json
import shutil
import socket
import subprocess
import sys
import time

import pytest

from flood_distill import map_server
from flood_distill.errors import UserError

fastapi_testclient = pytest.importorskip("fastapi.testclient")
pytest.importorskip("titiler.core")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    import scenes_test

    folder = tmp_path_factory.mktemp("maps")
    for name in ("a", "b"):
        scenes_test.write_scene(folder / f"{name}.tif", size=(300, 320))
    (folder / "out").mkdir()
    assert scenes_test.predict(folder / "a.tif", folder / "out") == []
    assert scenes_test.predict(folder / "b.tif", folder / "out", reference_water=str(folder / "out/a_water.tif")) == []
    (folder / "out/half_stac.json").write_text("{}")  # of a scene without provenance: not finished
    return folder / "out"


@pytest.fixture(scope="module")
def client(maps):
    return fastapi_testclient.TestClient(map_server.app(maps))


def test_the_page_asks_no_other_host(client):
    page = client.get("/").text
    assert "http" not in page.replace("<!doctype html>", "")
    for file in ("leaflet/leaflet.js", "leaflet/leaflet.css", "leaflet/LICENSE", "view.js", "view.css"):
        assert client.get(f"/page/{file}").status_code == 200
    assert "http" not in client.get("/page/view.js").text + client.get("/page/view.css").text


def test_finished_scenes_are_listed_with_their_areas_and_layers(client, maps):
    answer = client.get("/scenes").json()
    assert [scene["stem"] for scene in answer["scenes"]] == ["a", "b"]
    assert answer["kinds"] == ["water", "flood", "permanent_water"]
    first, second = answer["scenes"]
    assert first["area_km2"] == json.loads((maps / "a.json").read_text())["area_km2"]
    assert [layer["key"] for layer in first["layers"]] == ["vv", "probability", "water"]
    assert [layer["key"] for layer in second["layers"]] == ["vv", "probability", "water", "flood"]


@pytest.mark.parametrize("layer", ["vv", "probability", "water", "flood"])
def test_tiles_are_pictures(client, layer):
    import morecantile

    scene = client.get("/scenes").json()["scenes"][1]
    west, south, east, north = scene["bbox"]
    tile = morecantile.tms.get("WebMercatorQuad").tile((west + east) / 2, (south + north) / 2, 13)
    (template,) = [found["tiles"] for found in scene["layers"] if found["key"] == layer]
    answer = client.get("/" + template.format(z=tile.z, x=tile.x, y=tile.y))
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x89PNG")


@pytest.mark.parametrize("url", ["../a.tif", "/etc/passwd", "a.json", "none.tif", "https://example.com/a.tif"])
def test_nothing_but_the_maps_of_the_folder_is_opened(client, url):
    assert client.get("/cog/tiles/WebMercatorQuad/0/0/0.png", params={"url": url}).status_code == 404


def test_no_folder_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        map_server.app(tmp_path / "none")


@pytest.mark.skipif(not shutil.which("chromedriver"), reason="needs chromium and chromium-driver")
def test_a_browser_shows_map_sliders_and_table(maps, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flood_distill.view", f"--dir={maps}", f"--port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        assert f"2 scenes of {maps}" in server.stdout.readline()
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            browser.get(f"http://127.0.0.1:{port}/")
            look(browser)
            browser.save_screenshot(str(tmp_path / "view.png"))
        finally:
            browser.quit()
    finally:
        server.terminate()
        server.wait()


def look(browser):
    loaded = (
        "return [...document.querySelectorAll('img.leaflet-tile')].filter(i => i.complete && i.naturalWidth).length"
    )
    wait_for(lambda: browser.execute_script(loaded) >= 3)
    rows = [row.text.split() for row in browser.find_elements("css selector", "#scenes tr")]
    assert [row[0] for row in rows] == ["a", "b"]
    assert float(rows[1][1]) == pytest.approx(float(rows[1][2]) + float(rows[1][3]), abs=0.02)  # flood, permanent
    move = "const s = document.getElementById('opacity-water'); s.value = 25; s.dispatchEvent(new Event('input'));"
    browser.execute_script(move)
    opacities = browser.execute_script(
        "return [...document.querySelectorAll('.leaflet-layer')].map(l => l.style.opacity)"
    )
    assert opacities == ["1", "0", "0.25"]
    browser.find_elements("css selector", "#scenes tr")[1].click()
    wait_for(lambda: len(browser.find_elements("css selector", "#layers input")) == 4)
    wait_for(lambda: browser.execute_script(loaded) >= 4)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def wait_for(condition, limit_s=120):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
