"""Talks to Earth Engine through its own client library: within the quotas, with back-off, and with checked answers."""

import contextlib
import datetime
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import rasterio
import rasterio.errors
import requests
import shapely.geometry

from data_prep.earth_engine_curation import shapes
from data_prep.earth_engine_curation.events import Event
from data_prep.earth_engine_curation.pairing import Scene, TileSource
from data_prep.earth_engine_curation.settings import Settings, Traffic
from data_prep.patience import PASSING_STATUSES, Passing, Patience, Refused, Retries, reason
from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import raster
from flood_distill.geo.grid import Grid

# For many small requests, https://developers.google.com/earth-engine/guides/processing_environments
HIGH_VOLUME_URL = "https://earthengine-highvolume.googleapis.com"
_NOT_ALLOWED_STATUSES = frozenset({401, 403})
_MILLISECOND = datetime.timedelta(milliseconds=1)


class Pace:
    """Spaces the starts of requests evenly.

    Args:
        per_minute: how many may start in a minute.
        clock: seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._interval = 60.0 / per_minute
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = -math.inf

    def wait(self) -> None:
        """Returns when the caller may start a request."""
        with self._lock:
            start = max(self._clock(), self._next)
            self._next = start + self._interval
        self._sleep(max(0.0, start - self._clock()))


class EarthEngine:
    """The service, for many threads.

    Args:
        settings: what is asked for.
        traffic: how.
        project: Google Cloud project that is registered for Earth Engine; None takes the credentials' own.
        url: of the service.
        service_account_key: JSON key file; None takes the user's stored credentials.

    Raises:
        UserError: without credentials, project, or access.
    """

    def __init__(
        self,
        settings: Settings,
        traffic: Traffic,
        project: str | None = None,
        url: str = HIGH_VOLUME_URL,
        service_account_key: str | None = None,
    ):
        self._ee = _library()
        self._settings = settings
        self._pace = Pace(traffic.requests_per_minute)
        self._patience = Patience(Retries(traffic.attempts, traffic.first_wait_seconds, traffic.longest_wait_seconds))
        self._ee.data.setMaxRetries(0)  # all patience is in one place, truncated answers included
        credentials = self._credentials(service_account_key)
        transport = _transport(traffic.timeout_seconds)
        try:
            self._insist(lambda: self._ee.Initialize(credentials, url=url, project=project, http_transport=transport))
        except Refused as error:
            raise UserError(f"Earth Engine at {url}: {error}") from error
        self._patience.answered = True

    def list_s1(self, event: Event) -> list[Scene]:
        """Returns the Sentinel-1 IW images with VV and VH over an event in its time.

        Raises:
            Refused: if Earth Engine does not list them.
        """
        from data_prep.earth_engine_curation import expressions

        listing = expressions.s1_listing(self._settings, event.area, event.start, event.end)
        return [_s1_scene(feature, self._settings.s1_collection) for feature in self._features(listing)]

    def list_s2(self, event: Event, start: datetime.datetime, end: datetime.datetime) -> list[Scene]:
        """Returns the Sentinel-2 images over an event from `start` to `end`, both included.

        Raises:
            Refused: if Earth Engine does not list them.
        """
        from data_prep.earth_engine_curation import expressions

        listing = expressions.s2_listing(self._settings, event.area, start, end + _MILLISECOND)
        return [_s2_scene(feature, self._settings.s2_collection) for feature in self._features(listing)]

    def fetch(self, tile: TileSource) -> np.ndarray:
        """Returns the bands of a tile, float32 [bands, height, width], for `ndwi.layers`.

        Raises:
            Refused: if Earth Engine does not give this tile.
            Stopped: when the work is called off.
            UserError: if the project may not compute.
        """
        from data_prep.earth_engine_curation import expressions

        names = expressions.band_names(self._settings)
        ids = ([scene.scene_id for scene in scenes] for scenes in (tile.s1, tile.s2))
        request = {
            "expression": expressions.tile(self._settings, *ids),
            "fileFormat": "GEO_TIFF",
            "bandIds": names,
            "grid": pixel_grid(tile.place.grid),
        }
        return self._insist(lambda: decode(self._ee.data.computePixels(request), tile.place.grid, len(names)))

    def stop(self) -> None:
        """Calls off all requests that wait to be repeated."""
        self._patience.stop.set()

    def _features(self, listing) -> list[dict]:
        return self._insist(listing.getInfo)["features"]

    def _insist(self, request: Callable):
        def attempt():
            self._pace.wait()
            with _sorted_errors():
                return request()

        return self._patience.insist(attempt)

    def _credentials(self, service_account_key: str | None):
        try:
            if service_account_key is not None:
                return self._ee.ServiceAccountCredentials(None, service_account_key)
            return self._ee.data.get_persistent_credentials()
        except (OSError, ValueError) as error:
            raise UserError(f"--service_account_key={service_account_key}: is no key file ({error})") from error
        except self._ee.EEException as error:
            raise UserError(
                "Earth Engine: no credentials; run `earthengine authenticate` once, or give --service_account_key"
            ) from error


def pixel_grid(grid: Grid) -> dict:
    """Returns a grid as computePixels wants it: fixed size, crs and affine transform."""
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    return {
        "dimensions": {"width": grid.width, "height": grid.height},
        "affineTransform": dict(zip(names, grid.transform, strict=True)),
        "crsCode": grid.crs,
    }


def decode(content: bytes, grid: Grid, num_bands: int) -> np.ndarray:
    """Returns the pixels of a served GeoTIFF, float32 [bands, height, width].

    Raises:
        Passing: if it is truncated or no GeoTIFF at all.
        Refused: if it shows another place or other bands than asked for.
    """
    try:
        with rasterio.MemoryFile(content) as memory, memory.open() as dataset:
            served = raster.grid_of(dataset) if dataset.crs else None
            if served is None or dataset.count != num_bands or not grid_lib.same_grid(grid, served):
                raise Refused(f"the answer has {dataset.count} band(s) on {served}, asked for {num_bands} on {grid}")
            return dataset.read(out_dtype=np.float32)
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise Passing(f"the answer of {len(content)} bytes is truncated or no GeoTIFF") from error


def _s1_scene(feature: dict, collection: str) -> Scene:
    properties = feature["properties"]
    direction = str(properties["orbitProperties_pass"])[0]
    group = f"S1{properties['platform_number']}{int(properties['orbitNumber_start']):06d}{direction}"
    return _scene(feature, collection, group)


def _s2_scene(feature: dict, collection: str) -> Scene:
    properties = feature["properties"]
    datatake = str(properties["DATATAKE_IDENTIFIER"]).rsplit("_", 1)[0]  # without the processing baseline
    cloud = properties.get("CLOUDY_PIXEL_PERCENTAGE")
    return _scene(feature, collection, datatake, math.nan if cloud is None else float(cloud))


def _scene(feature: dict, collection: str, group: str, cloud_percent: float = math.nan) -> Scene:
    milliseconds = feature["properties"]["system:time_start"]
    when = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    geometry = feature.get("geometry")
    area = shapes.area_of(shapely.geometry.shape(geometry)) if geometry else shapes.EMPTY
    return Scene(f"{collection}/{feature['properties']['scene']}", when, group, area, cloud_percent)


@contextlib.contextmanager
def _sorted_errors() -> Iterator[None]:
    """Turns what the client library raises into `Passing`, `Refused` or, where nothing will work, `UserError`."""
    try:
        yield
    except (Passing, Refused, UserError):
        raise
    except (requests.RequestException, ConnectionError, TimeoutError, json.JSONDecodeError) as error:
        raise Passing(reason(error)) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("ee", "google", "googleapiclient", "httplib2"):
            raise
        raise _sorted(error) from error


def _sorted(error: Exception) -> Exception:
    """Says what an error of Google's libraries means; told by attributes, so that none of them is imported for it."""
    message = _one_line(error)
    # The client library makes its EEException from an HttpError and keeps the status only there.
    response = getattr(error, "resp", None) or getattr(error.__context__, "resp", None)
    status = None if response is None else int(response.status)
    if status in PASSING_STATUSES or getattr(error, "retryable", False):
        return Passing(message if status is None else f"{status} {message}", _retry_after(response))
    if status in _NOT_ALLOWED_STATUSES:
        return UserError(f"Earth Engine: {message}; is --project registered for Earth Engine, and yours to use?")
    if "no project found" in message:
        return UserError("Earth Engine: no project; give --project=YOUR-CLOUD-PROJECT")
    if type(error).__module__.startswith("google.auth"):
        return UserError(f"Earth Engine: the credentials do not work ({message}); run `earthengine authenticate`")
    return Refused(message, status)


def _retry_after(response) -> float | None:
    text = "" if response is None else response.get("retry-after", "")
    return float(text) if text.isdigit() else None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _library():
    import ee

    # google-api-python-client announces every failed answer, which is told here.
    logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)
    return ee


def _transport(timeout_seconds: float):
    """Returns what the client library sends its requests with: a connection of its own for every thread."""
    import httplib2

    local = threading.local()

    class Transport:
        def request(self, uri, method="GET", body=None, headers=None, redirections=None, connection_type=None):
            del redirections, connection_type  # of httplib2's interface
            if not hasattr(local, "session"):
                local.session = requests.Session()
            response = local.session.request(method, uri, data=body, headers=headers, timeout=timeout_seconds)
            return httplib2.Response({**response.headers, "status": response.status_code}), response.content

    return Transport()
