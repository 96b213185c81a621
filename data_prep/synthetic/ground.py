"""The one ground truth under both sensors: terrain, rivers, flood and land cover of a chip."""

import dataclasses

import numpy as np

from data_prep.synthetic import days, noise, world


@dataclasses.dataclass(frozen=True)
class Ground:
    """A piece of the world; all arrays are [height, width] at `world.CHIP_PIXEL_M`.

    Attributes:
        elevation_m: float32, of the surface that both sensors see.
        depth_m: float32, of water; 0 or less where there is none.
        permanent: bool, rivers and lakes of a dry day.
        water: bool, the truth: flooded or permanent, and open to the sky.
        emergence: float32 in [0, 1], share of the surface that vegetation covers where there is water.
        cover: uint8, class numbers of `world`.
        parcel: float32 Gaussian, one value a parcel or patch.
        vigour: float32 in [0, 1], greenness of vegetation.
        turbidity: float32 in [0, 1], of the water.
    """

    elevation_m: np.ndarray
    depth_m: np.ndarray
    permanent: np.ndarray
    water: np.ndarray
    emergence: np.ndarray
    cover: np.ndarray
    parcel: np.ndarray
    vigour: np.ndarray
    turbidity: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Site:
    """Random choices of one chip, and its coordinates in metres."""

    rng: np.random.Generator
    shape: tuple[int, int]
    biome: world.Biome
    day: days.Day
    quirk: str
    flooded_share: float
    across: np.ndarray
    along: np.ndarray

    def noise(self, longest_m: float, shortest_m: float = 25.0, slope: float = 2.6) -> np.ndarray:
        pixel = world.CHIP_PIXEL_M
        return noise.fractal(self.rng, self.shape, slope, longest_m / pixel, shortest_m / pixel)


def make(event: world.Event, number: int, shape: tuple[int, int], quirk: str = "") -> Ground:
    """Makes the ground of chip `number` of an event.

    Args:
        event: where it is; its day is drawn by its name.
        number: the chip's number within the event, which seeds it.
        shape: height and width in pixels of `world.CHIP_PIXEL_M`.
        quirk: ``no_water`` and ``all_water`` change the ground; the other quirks do not.
    """
    site = _site(event, number, shape, quirk)
    above_stream, distance, valley, width = _drainage(site)
    hills = _hills(site, valley)
    above_stream = above_stream + hills
    cover, parcel, step, road = _land_cover(site, hills, distance, width)
    lakes = _lakes(site, hills, step)
    height = np.where(lakes, -2.0, above_stream + step)
    height = np.where(road & (height > -4.0), height + world.ROAD_EMBANKMENT_M, height).astype(np.float32)
    if quirk == world.NO_WATER:
        height = np.maximum(height, 0.1)
    depth = _stage(site, height) - height
    permanent = (height < 0) & (depth > 0)
    emergence = _emergence(site, depth, permanent, cover, parcel)
    water = (depth > 0) & (1.0 - emergence > world.VISIBLE_WATER_SHARE)
    vigour = np.clip(site.day.vigour + 0.14 * parcel + 0.05 * site.noise(600.0), 0.0, 1.0)
    return Ground(
        elevation_m=height + 40.0,
        depth_m=depth,
        permanent=permanent,
        water=water,
        emergence=emergence,
        cover=cover,
        parcel=parcel,
        vigour=vigour,
        turbidity=_turbidity(site, lakes),
    )


def _site(event: world.Event, number: int, shape: tuple[int, int], quirk: str) -> _Site:
    rng = noise.generator("ground", event.name, number)
    conditions = world.CONDITIONS
    turn = rng.uniform(0.0, np.pi)
    rows, columns = np.indices(shape, dtype=np.float32) * np.float32(world.CHIP_PIXEL_M)
    rows -= rows[-1, 0] / 2
    columns -= columns[0, -1] / 2
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    offset = np.float32(rng.uniform(-1500.0, 1500.0))
    share = conditions.flood_max * rng.random() ** conditions.flood_power
    share = {world.NO_WATER: 0.0, world.ALL_WATER: 0.985}.get(quirk, share)
    biome = world.BIOMES[event.biome]
    if quirk == world.ALL_WATER:
        biome = dataclasses.replace(biome, relief_m=2.0, forest=0.02, urban=0.0, shrub=0.0)
    across, along = columns * cosine + rows * sine + offset, rows * cosine - columns * sine
    return _Site(rng, shape, biome, days.draw(event), quirk, share, across, along)


def _drainage(site: _Site) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Returns, in metres, height above the nearest stream, distances to river and valley axis, the river's width.

    A river is the zero line of the distance across the valley, bent by noise of the meander's wavelength.
    """
    median, spread = world.RIVER_WIDTH_M
    width = float(np.clip(site.rng.lognormal(np.log(median), spread), *world.RIVER_WIDTH_RANGE_M))
    wavelength = world.MEANDER_WAVELENGTH_IN_WIDTHS * width
    axis = site.across + 450.0 * site.noise(6000.0, 2500.0)
    distance = _line_distance(axis + 0.22 * wavelength * site.noise(1.5 * wavelength, 0.6 * wavelength))
    brook = _line_distance(2000.0 * site.noise(6000.0, 700.0, 3.6))
    brook_width = site.rng.uniform(*world.BROOK_WIDTH_M)
    has_brook = site.rng.random() < world.BROOK_PROBABILITY
    micro = world.MICRO_RELIEF_M * site.noise(5000.0, world.MICRO_RELIEF_SHORTEST_M, world.TERRAIN_SPECTRAL_SLOPE)
    micro += world.HAND_FLOODPLAIN_M
    bars = np.sin(2 * np.pi * distance / (world.SCROLL_BAR_SPACING_IN_WIDTHS * width) + site.noise(1500.0, 300.0))
    micro += world.SCROLL_BAR_HEIGHT_M * bars * np.exp(-distance / (5.0 * width))
    height = np.minimum(micro, _channel(distance, width, 4.0))
    if has_brook:
        height = np.minimum(height, _channel(brook, brook_width, 1.5))
    return height.astype(np.float32), distance, np.abs(axis), width


def _line_distance(field: np.ndarray) -> np.ndarray:
    """Distance in metres to the zero line of a field, to first order: |f| / |grad f|."""
    gradient_rows, gradient_columns = np.gradient(field, world.CHIP_PIXEL_M)
    return np.abs(field) / np.clip(np.hypot(gradient_rows, gradient_columns), 0.25, None)


def _channel(distance: np.ndarray, width: float, depth: float) -> np.ndarray:
    """Cross-section of a stream: a parabola below the bank's foot, a steep bank above it."""
    offset = distance - width / 2
    return np.where(offset < 0, -depth * (1.0 - (2 * distance / width) ** 2) - 0.05, 0.12 * offset)


def _hills(site: _Site, valley: np.ndarray) -> np.ndarray:
    """Height (m) of the hills that rise beside the floodplain."""
    biome = site.biome
    shape = world.HILL_ROUGHNESS * site.noise(9000.0, 120.0, world.TERRAIN_SPECTRAL_SLOPE + 0.4)
    shape += (valley - biome.floodplain_m) / world.VALLEY_WALL_M
    return (biome.relief_m * np.clip(shape, 0.0, 2.5)).astype(np.float32)


def _lakes(site: _Site, hills: np.ndarray, step: np.ndarray) -> np.ndarray:
    field = site.noise(2400.0, 250.0) - 0.2 * hills + 0.2 * step
    if site.quirk == world.NO_WATER:
        return np.zeros(site.shape, bool)
    return field > noise.threshold_of(field, site.biome.lakes * site.rng.uniform(0.0, 2.0))


def _stage(site: _Site, height: np.ndarray) -> float:
    """Water level (m above a dry day's) that floods the chip's share of land."""
    if site.quirk == world.NO_WATER:
        return 0.0
    dry_share = float((height[::4, ::4] >= 0).mean())
    share = min(1.0, 1.0 - dry_share + site.flooded_share * dry_share)
    return max(0.0, float(np.quantile(height[::4, ::4], share)))


def _emergence(
    site: _Site, depth: np.ndarray, permanent: np.ndarray, cover: np.ndarray, parcel: np.ndarray
) -> np.ndarray:
    """Share of the surface covered by plants and roofs that stand out of the water; none in rivers and lakes."""
    tall = np.asarray(world.VEGETATION_HEIGHT_M, np.float32)[cover] * np.clip(1.0 + 0.35 * parcel, 0.2, 2.0)
    share = np.clip(1.3 - 1.3 * np.maximum(depth, 0.0) / np.maximum(tall, 0.02), 0.0, 1.0)
    stems = world.STEM_SHARE * site.day.vigour * (cover != world.SAND)
    return np.where((depth > 0) & ~permanent, np.maximum(share, stems), 0.0).astype(np.float32)


def _turbidity(site: _Site, lakes: np.ndarray) -> np.ndarray:
    field = np.clip(site.day.turbidity + 0.22 * site.noise(4000.0, 80.0), 0.0, 1.0)
    return np.where(lakes, 0.35 * field, field).astype(np.float32)


def _land_cover(
    site: _Site, hills: np.ndarray, distance: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns cover (uint8), a Gaussian a parcel, the parcels' height steps (m) and where roads run (bool)."""
    biome = site.biome
    wild = site.noise(3500.0, 30.0)
    cover = np.full(site.shape, world.GRASS, np.uint8)
    cover[wild > noise.threshold_of(wild, biome.forest + biome.shrub)] = world.SHRUB if biome.shrub else world.FOREST
    if biome.shrub and biome.forest:
        cover[wild > noise.threshold_of(wild, biome.forest)] = world.FOREST
    parcel = (0.7 * site.noise(900.0, 60.0)).astype(np.float32)
    step = np.zeros(site.shape, np.float32)
    _add_fields(site, hills, cover, parcel, step)
    _add_sand(site, hills, distance, width, cover)
    _add_towns(site, hills, distance, cover, parcel)
    road = _add_roads(site, cover)
    cover[distance < width / 2] = world.GRASS
    return cover, parcel, step, road


def _add_fields(site: _Site, hills: np.ndarray, cover: np.ndarray, parcel: np.ndarray, step: np.ndarray) -> None:
    """Lays fields over the flat land: rotated bricks, each with its crop, roughness and level."""
    biome, rng = site.biome, site.rng
    region = site.noise(5000.0, 150.0) - 0.03 * np.minimum(hills, 60.0)
    farmland = region > noise.threshold_of(region, biome.farmland)
    split = site.noise(6000.0, 1500.0) > 0.3  # two systems of fields meet
    turn = rng.uniform(0.0, np.pi)
    key = np.zeros(site.shape, np.int32)
    for system, mask in enumerate((~split, split)):
        angle = turn + system * rng.uniform(0.3, 1.2)
        u = site.across * np.float32(np.cos(angle)) + site.along * np.float32(np.sin(angle))
        v = site.along * np.float32(np.cos(angle)) - site.across * np.float32(np.sin(angle))
        long, wide = biome.parcel_m * rng.uniform(1.2, 2.6), biome.parcel_m * rng.uniform(0.7, 1.2)
        row = np.floor(v / wide).astype(np.int32)
        brick = np.floor(u / long + 0.37 * (row % 5)).astype(np.int32)
        key = np.where(mask, (row * 7919 + brick * 104729 + system * 15485863) & 0xFFFF, key)
    kinds = rng.choice(
        np.array([world.SMOOTH_SOIL, world.PLOUGHED, world.GRASS, world.FOREST, world.CROP], np.uint8),
        65536,
        p=[biome.smooth, biome.ploughed, 0.12, 0.04, 0.84 - biome.smooth - biome.ploughed],
    )
    cover[farmland] = kinds[key][farmland]
    parcel[farmland] = rng.standard_normal(65536, dtype=np.float32)[key][farmland]
    level = world.PARCEL_STEP_M * rng.standard_normal(65536, dtype=np.float32)
    step[farmland] = level[key][farmland]


def _add_sand(site: _Site, hills: np.ndarray, distance: np.ndarray, width: float, cover: np.ndarray) -> None:
    """Sand bars beside the river and dry beds in the open land."""
    patches = site.noise(2600.0, 40.0) - 0.02 * np.minimum(hills, 50.0)
    beds = patches > noise.threshold_of(patches, site.biome.sand * site.rng.uniform(0.2, 1.8))
    bars = (distance < width / 2 + 70.0) & (site.noise(1200.0, 80.0) > 1.25) & (site.biome.sand > 0)
    cover[beds | bars] = world.SAND


def _add_towns(site: _Site, hills: np.ndarray, distance: np.ndarray, cover: np.ndarray, parcel: np.ndarray) -> None:
    share = site.biome.urban * site.rng.uniform(0.0, 2.2)
    field = site.noise(2400.0, 120.0) - 0.05 * np.minimum(hills, 60.0)
    town = field > noise.threshold_of(field, share)
    cover[town] = world.URBAN
    if site.rng.random() < world.TARMAC_PROBABILITY:  # an airfield, a car park, a solar park
        length, breadth = site.rng.uniform(500.0, 2200.0), site.rng.uniform(45.0, 220.0)
        strip = (np.abs(site.across - site.rng.uniform(-1500, 1500)) < breadth / 2) & (
            np.abs(site.along - site.rng.uniform(-1500, 1500)) < length / 2
        )
        cover[strip & (hills < 20.0)] = world.TARMAC
        parcel[strip] = 0.0


def _add_roads(site: _Site, cover: np.ndarray) -> np.ndarray:
    """Up to three straight embanked roads; returns where they run."""
    road = np.zeros(site.shape, bool)
    for _ in range(site.rng.integers(0, 4)):
        angle, offset = site.rng.uniform(0.0, np.pi), site.rng.uniform(-2200.0, 2200.0)
        line = site.across * np.float32(np.cos(angle)) + site.along * np.float32(np.sin(angle)) - offset
        road |= np.abs(line) < 9.0
    cover[road] = world.GRASS
    return road
