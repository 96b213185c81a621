"""A local web page of the flood maps in a folder (extra ``view``): pan, zoom, opacity, areas.

Tiles come from the cloud-optimised GeoTIFFs by titiler; the page draws with Leaflet, which lies in `view_page`. No
other host is asked for anything.
"""

import json
import urllib.parse
import warnings
from pathlib import Path

from flood_distill.errors import UserError
from flood_distill.scene_files import FLOOD, PROBABILITY, PROVENANCE, STAC, VV, WATER

PAGE = Path(__file__).with_name("view_page")
HOST = "127.0.0.1"
_MAX_ZOOM = 14  # 9.6 m at the equator, 16 m pixels are 13 to 14
_KINDS = ("water", "flood", "permanent_water")  # of areas, in the table's order
_PROBABILITY_COLORS = "blues"
# From bottom to top: key, title, ending, colour of the swatch, titiler's arguments.
_LAYERS = (
    ("vv", "Sentinel-1 VV", VV, "", {"rescale": "0,254"}),
    (
        "probability",
        "Water probability",
        PROBABILITY,
        "#3f7fd0",
        {"rescale": "0,100", "colormap_name": _PROBABILITY_COLORS},
    ),
    ("water", "Water mask", WATER, "#1f5ad9", {"colormap": '{"1": [31, 90, 217, 255]}'}),
    (
        "flood",
        "Flood and reference water",
        FLOOD,
        "#1f5ad9",
        {"colormap": '{"1": [31, 90, 217, 255], "2": [150, 190, 240, 255]}'},
    ),
)


def find_scenes(folder: Path) -> list[dict]:
    """Returns what the page shows of each finished scene of a folder, by name.

    Raises:
        UserError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"--dir={folder}: no such folder; give the --output_dir of flood_distill.predict")
    scenes = []
    for path in sorted(folder.glob(f"*{STAC}")):
        stem = path.name.removesuffix(STAC)
        provenance = folder / f"{stem}{PROVENANCE}"
        if provenance.exists():
            scenes.append(_scene(stem, json.loads(provenance.read_text()), json.loads(path.read_text())))
    return scenes


def app(folder: Path):
    """Returns the web application (FastAPI).

    Raises:
        UserError: if titiler is not installed, or there is no such folder.
    """
    try:
        from fastapi import FastAPI, HTTPException
        from fastapi.responses import FileResponse
        from fastapi.staticfiles import StaticFiles
        from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
        from titiler.core.factory import TilerFactory
    except ImportError as error:
        raise UserError(f"the viewer is not installed ({error.name}): pip install 'flood_distill[view]'") from error
    find_scenes(folder)

    def raster_path(url: str) -> str:
        """Lets titiler open the maps of the folder and nothing else."""
        path = folder / url
        if path.parent != folder or not path.name.endswith(".tif") or not path.is_file():
            raise HTTPException(404, f"no map {url}")
        return str(path)

    application = FastAPI(title="flood_distill", docs_url=None, redoc_url=None, openapi_url=None)
    application.include_router(TilerFactory(path_dependency=raster_path, router_prefix="/cog").router, prefix="/cog")
    add_exception_handlers(application, DEFAULT_STATUS_CODES)
    application.mount("/page", StaticFiles(directory=PAGE))

    @application.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @application.get("/scenes")
    def scenes() -> dict:
        found = find_scenes(folder)
        there = {kind for scene in found for kind in scene["area_km2"]}
        return {"scenes": found, "kinds": [kind for kind in _KINDS if kind in there]}

    return application


def serve(folder: Path, port: int) -> None:
    """Serves the page until it is interrupted.

    Raises:
        UserError: as `app`.
    """
    application = app(folder)
    import rasterio.errors
    import uvicorn

    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # a tile's PNG has no place, nor needs one
    num_scenes = len(find_scenes(folder))
    print(f"{num_scenes} scenes of {folder}: http://{HOST}:{port} (Ctrl-C ends)", flush=True)
    uvicorn.run(application, host=HOST, port=port, log_level="warning")


def _scene(stem: str, provenance: dict, item: dict) -> dict:
    there = set(provenance["outputs"])
    return {
        "stem": stem,
        "bbox": item["bbox"],
        "max_zoom": _MAX_ZOOM,
        **{key: provenance[key] for key in ("source", "model_name", "model_source", "area_km2")},
        "layers": [
            {"key": key, "title": title, "color": color, "tiles": _tiles(f"{stem}{ending}", arguments)}
            for key, title, ending, color, arguments in _LAYERS
            if f"{stem}{ending}" in there
        ],
    }


def _tiles(name: str, arguments: dict[str, str]) -> str:
    query = urllib.parse.urlencode({"url": name, **arguments})
    return f"cog/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png?{query}"
