"""A stand-in of Earth Engine's REST endpoints on a local port, for the real client library.

It serves the discovery document and the algorithms that the client library carries for its own tests, lists the scenes
it is given as the filters of a request want them, and computes tiles by following the request's expression, so that a
wrong expression gives wrong pixels. Every request is recorded; faults can be put in.
"""

import contextlib
import dataclasses
import datetime
import functools
import http.server
import json
import threading
from pathlib import Path
from urllib.parse import urlsplit

import ee
import numpy as np
import rasterio
import shapely.geometry

from data_prep.earth_engine_curation import settings
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

SETTINGS = settings.Settings(
    s1_collection="COPERNICUS/S1_GRD",
    s2_collection="COPERNICUS/S2_HARMONIZED",
    max_gap_hours=12.0,
    max_cloud_percent=12.0,
    cloud_over="image",
    cloud_collection="GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED",
    cloud_band="cs_cdf",
    clear_score=0.6,
    ndwi_threshold=0.0,
    min_valid_share=0.5,
)
TRAFFIC = settings.Traffic(
    num_parallel=4,
    requests_per_minute=6000,
    timeout_seconds=10.0,
    attempts=4,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.02,
    max_failures=3,
)

EE_TESTS = Path(ee.__file__).parent / "tests"
TOKEN = "token-of-the-test"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclasses.dataclass
class Scene:
    """An image: constant bands inside a box in degrees, except NDWI water north of `water_from`."""

    collection: str
    name: str
    time: datetime.datetime
    box: tuple[float, float, float, float]
    properties: dict
    bands: dict

    @property
    def milliseconds(self) -> int:
        return int((self.time - EPOCH).total_seconds() * 1000)


def utc(text: str) -> datetime.datetime:
    """Returns a time such as 2020-07-14T12:00."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


def s1_scene(name, time, box, orbit=1, vv=-10.0, vh=-17.0, **properties) -> Scene:
    """Returns a Sentinel-1 image."""
    given = {
        "platform_number": "A",
        "orbitNumber_start": orbit,
        "orbitProperties_pass": "ASCENDING",
        "instrumentMode": "IW",
        "transmitterReceiverPolarisation": ["VV", "VH"],
    }
    return Scene("COPERNICUS/S1_GRD", name, utc(time), box, given | properties, {"VV": vv, "VH": vh})


def s2_scene(name, time, box, cloud=5.0, datatake="GS2A_1_000001_N02.09", b3=900.0, b8=300.0, **properties) -> Scene:
    """Returns a Sentinel-2 image."""
    given = {"DATATAKE_IDENTIFIER": datatake, "CLOUDY_PIXEL_PERCENTAGE": cloud}
    bands = {"B2": 800.0, "B3": b3, "B4": 700.0, "B8": b8, "B11": 1.0}
    return Scene("COPERNICUS/S2_HARMONIZED", name, utc(time), box, given | properties, bands)


def cloud_scene(name, time, box, score) -> Scene:
    """Returns the clear-sky scores of a Sentinel-2 image."""
    return Scene("GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED", name, utc(time), box, {}, {"cs": 0.0, "cs_cdf": score})


class Server(http.server.ThreadingHTTPServer):
    """The service.

    Attributes:
        scenes: all images.
        requests: path, headers and JSON body of every request, in order.
        faults: what to do wrong with the next computePixels requests, one a request: ``429``, ``503``, ``400``, ``cut``
            (the connection ends early), ``short`` (half a file), ``text`` (no file at all), None (nothing).
        most_under_way: the largest number of computePixels requests at a time.
        wait_for: no computePixels request is answered before so many were under way at a time.
    """

    daemon_threads = True

    def __init__(self, scenes=()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scenes = list(scenes)
        self.requests: list[tuple[str, dict, dict]] = []
        self.faults: list[str | None] = []
        self.listing_faults: list[str | None] = []
        self.lock = threading.Lock()
        self.under_way = 0
        self.most_under_way = 0
        self.wait_for = 0
        self.arrival = threading.Condition(self.lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bodies(self, ending: str) -> list[dict]:
        """Returns the JSON bodies of the requests whose path ends so."""
        with self.lock:
            return [body for path, _, body in self.requests if path.endswith(ending)]

    def handle_error(self, request, client_address):
        pass  # a client that hangs up


@contextlib.contextmanager
def running(scenes=()):
    """Gives a server that answers."""
    server = Server(scenes)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_key(path: Path, server: Server, private_key: str) -> Path:
    """Writes the key file of a service account that signs in at the server."""
    account = {
        "type": "service_account",
        "client_email": "tester@project.iam.gserviceaccount.com",
        "private_key": private_key,
        "private_key_id": "1",
        "token_uri": f"{server.url}/token",
        "project_id": "key-project",
    }
    path.write_text(json.dumps(account))
    return path


@functools.cache
def _discovery() -> bytes:
    # The client asks for v1 and carries v1alpha: the paths differ by that word only.
    return (EE_TESTS / "cloud_api_discovery_document.json").read_bytes().replace(b"v1alpha/", b"v1/")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._record({})
        path = urlsplit(self.path).path
        if path == "/$discovery/rest":
            self._answer(200, _discovery(), "application/json")
        elif path.endswith("/algorithms"):
            self._answer(200, (EE_TESTS / "algorithms.json").read_bytes(), "application/json")
        else:
            self._error(404, "no such path")

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if path == "/token":
            self._record({})
            self._json({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            return
        body = json.loads(content)
        self._record(body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "not signed in")
        elif path.endswith("/value:compute"):
            self._list(body)
        elif path.endswith("/image:computePixels"):
            self._tile(body)
        else:
            self._error(404, "no such path")

    def _list(self, body):
        with self.server.lock:
            fault = self.server.listing_faults.pop(0) if self.server.listing_faults else None
        if fault:
            self._error(int(fault), "listing fault")
            return
        self._json({"result": {"type": "FeatureCollection", "features": _features(body, self.server.scenes)}})

    def _tile(self, body):
        server = self.server
        with server.lock:
            fault = server.faults.pop(0) if server.faults else None
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
            server.arrival.notify_all()
            server.arrival.wait_for(lambda: server.most_under_way >= server.wait_for, timeout=30)
        refused = fault in ("429", "503", "400", "403")
        content = b"<html>busy</html>" if refused or fault == "text" else _geotiff(body, server.scenes)
        with server.lock:
            server.under_way -= 1
        if refused:
            self._error(int(fault), f"fault {fault}")
            return
        if fault == "short":
            content = content[: len(content) // 2]
        self._answer(200, content, "image/tiff", cut=fault == "cut")

    def _record(self, body):
        with self.server.lock:
            self.server.requests.append(
                (urlsplit(self.path).path, {name.lower(): value for name, value in self.headers.items()}, body)
            )

    def _json(self, content, status=200):
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _error(self, status, message):
        self._json({"error": {"code": status, "message": message, "status": "FAULT"}}, status)

    def _answer(self, status, content, kind, cut=False):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut


# --- Following expressions -------------------------------------------------------------------------------------------
def nodes(body: dict) -> list[tuple[str, dict]]:
    """Returns the function calls of a request's expression: names and arguments, constants and calls resolved."""
    found = []

    def visit(value):
        if isinstance(value, dict) and "function" in value:
            found.append((value["function"], value["arguments"]))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            visit(inner)

    visit(resolve(body["expression"]))
    return found


def resolve(expression: dict):
    """Returns an expression as nested dictionaries ``{"function": ..., "arguments": ...}``, lists and constants."""
    values, known = expression["values"], {}

    def value(node):
        if "valueReference" in node:
            name = node["valueReference"]
            if name not in known:
                known[name] = value(values[name])
            return known[name]
        if "constantValue" in node:
            return node["constantValue"]
        if "integerValue" in node:
            return int(node["integerValue"])
        if "arrayValue" in node:
            return [value(item) for item in node["arrayValue"]["values"]]
        if "dictionaryValue" in node:
            return {name: value(item) for name, item in node["dictionaryValue"]["values"].items()}
        if "functionInvocationValue" in node:
            call = node["functionInvocationValue"]
            arguments = {name: value(item) for name, item in call.get("arguments", {}).items()}
            return {"function": call["functionName"], "arguments": arguments}
        return node  # functions to map and their arguments

    return value(values[expression["result"]])


def _features(body: dict, scenes) -> list[dict]:
    calls = nodes(body)
    collection = next(arguments["id"] for name, arguments in calls if name == "ImageCollection.load")
    kept = [scene for scene in scenes if scene.collection == collection]
    for name, arguments in calls:
        if name == "Filter.dateRangeContains":
            span = arguments["leftValue"]["arguments"]
            kept = [scene for scene in kept if span["start"] <= scene.milliseconds < span["end"]]
        elif name == "Filter.intersects":
            area = _area(arguments["rightValue"])
            kept = [scene for scene in kept if shapely.geometry.box(*scene.box).intersects(area)]
        elif name == "Filter.equals":
            kept = [s for s in kept if s.properties.get(arguments["leftField"]) == arguments["rightValue"]]
        elif name == "Filter.listContains":
            kept = [s for s in kept if arguments["rightValue"] in s.properties.get(arguments["leftField"], ())]
    return [_feature(scene) for scene in kept]


def _area(value):
    while "geometry" in value.get("arguments", {}):
        value = value["arguments"]["geometry"]
    kind = value["function"].split(".")[-1]
    return shapely.geometry.shape({"type": kind, "coordinates": value["arguments"]["coordinates"]})


def _feature(scene: Scene) -> dict:
    geometry = shapely.geometry.mapping(shapely.geometry.box(*scene.box)) if scene.box else None
    properties = {"scene": scene.name, "system:time_start": scene.milliseconds, **scene.properties}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _geotiff(body: dict, scenes) -> bytes:
    size, affine = body["grid"]["dimensions"], body["grid"]["affineTransform"]
    transform = tuple(affine[n] for n in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY"))
    grid = Grid(body["grid"]["crsCode"], transform, size["width"], size["height"])
    image = Evaluator(scenes, grid).evaluate(resolve(body["expression"]))
    assert list(image) == body["bandIds"], (list(image), body["bandIds"])
    assert body["fileFormat"] == "GEO_TIFF"
    planes = np.stack([np.where(mask > 0, values, 0) for values, mask in image.values()]).astype(np.float32)
    profile = {"driver": "GTiff", "count": len(planes), "height": grid.height, "width": grid.width, "dtype": "float32"}
    place = {"crs": grid.crs, "transform": rasterio.Affine(*transform), "compress": "lzw"}
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile, **place) as dataset:
            dataset.write(planes)
        return memory.read()


class Evaluator:
    """Computes an image: a dictionary of bands, each values and mask [height, width]."""

    def __init__(self, scenes, grid: Grid):
        self._scenes = {f"{scene.collection}/{scene.name}": scene for scene in scenes}
        # Longitude and latitude between the corners, linear: 5 km bend by less than a pixel.
        ends = np.meshgrid([0.5, grid.height - 0.5], [0.5, grid.width - 0.5], indexing="ij")
        down, right = (np.linspace(0, 1, size) for size in grid.shape)
        weights = np.stack([1 - down, down], -1), np.stack([1 - right, right])
        self._place = [
            weights[0] @ c @ weights[1] for c in grid_lib.project(grid.crs, "EPSG:4326", *grid.points(*ends))
        ]
        self._shape = grid.shape
        self._ones = np.ones(grid.shape)
        self._known = {}

    def evaluate(self, value):
        """Computes a resolved expression; what it refers to more than once is computed once."""
        if isinstance(value, list):
            return [self.evaluate(item) for item in value]
        if not isinstance(value, dict) or "function" not in value:
            return value
        if id(value) not in self._known:
            arguments = {name: self.evaluate(item) for name, item in value["arguments"].items()}
            self._known[id(value)] = getattr(self, "_" + value["function"].replace(".", "_").lower())(**arguments)
        return self._known[id(value)]

    def _image_load(self, id):
        scene = self._scenes[id]
        west, south, east, north = scene.box
        xs, ys = self._place
        inside = ((xs >= west) & (xs < east) & (ys >= south) & (ys < north)).astype(float)
        return {
            name: (np.full(self._shape, band) if np.isscalar(band) else band(xs, ys), inside)
            for name, band in scene.bands.items()
        }

    def _image_select(self, input, bandSelectors):
        return {name: input[name] for name in bandSelectors}

    def _image_resample(self, image, mode="bilinear"):
        assert mode == "bilinear"
        return image

    def _image_mask(self, image):
        return {name: (mask, self._ones) for name, (_, mask) in image.items()}

    def _reducer_min(self):
        return np.min

    def _image_reduce(self, image, reducer):
        values = reducer([values for values, _ in image.values()], axis=0)
        return {"min": (values, np.min([mask for _, mask in image.values()], axis=0))}

    def _image_constant(self, value):
        return {"constant": (np.full(self._shape, float(value)), self._ones)}

    def _image_gte(self, image1, image2):
        ((other, _),) = image2.values()
        return {name: ((values >= other).astype(float), mask) for name, (values, mask) in image1.items()}

    def _image_updatemask(self, image, mask):
        ((keep, valid),) = mask.values()
        return {name: (values, old * keep * valid) for name, (values, old) in image.items()}

    def _imagecollection_fromimages(self, images):
        return images

    def _imagecollection_mosaic(self, collection):
        result = dict(collection[0])
        for image in collection[1:]:
            for name, (values, mask) in image.items():
                below, below_mask = result[name]
                result[name] = (np.where(mask > 0, values, below), np.where(mask > 0, mask, below_mask))
        return result

    def _image_unmask(self, input, value, sameFootprint=True):
        assert sameFootprint is False  # otherwise nothing is filled outside of the image
        ((fill, _),) = value.values()
        return {n: (np.where(mask > 0, values, fill), self._ones) for n, (values, mask) in input.items()}

    def _image_rename(self, input, names):
        return dict(zip([names] if isinstance(names, str) else names, input.values(), strict=True))

    def _image_addbands(self, dstImg, srcImg):
        assert not set(dstImg) & set(srcImg)
        return dstImg | srcImg

    def _image_tofloat(self, value):
        return value
