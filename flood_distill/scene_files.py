"""Names of the files of a scene: its stem and one of these endings."""

WATER = "_water.tif"
PROBABILITY = "_probability.tif"
VV = "_vv.tif"
FLOOD = "_flood.tif"
POLYGONS = "_water.geojson"
FLOOD_POLYGONS = "_flood.geojson"
PREVIEW = "_preview.png"
STYLE = "_probability.qml"
STAC = "_stac.json"
PROVENANCE = ".json"
ALL = (WATER, PROBABILITY, VV, FLOOD, POLYGONS, FLOOD_POLYGONS, PREVIEW, STYLE, STAC, PROVENANCE)
