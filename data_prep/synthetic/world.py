"""Physics, seeds and events of the synthetic world: every figure it rests on, each with its source, in this one file.

FROZEN: models are tuned after this file, never this file after models. Any change needs a new `WORLD_VERSION`; what
shaped each version is in README.md.

Where a comment names no publication it says "chosen": a plausible value that no source fixes. Backscatter is sigma
nought in dB; lengths are metres; reflectance is a fraction of one (written x 10000).
"""

import dataclasses

WORLD_VERSION = "2"
SEED = 20221  # chosen before any model was trained

# --- Rasters ---------------------------------------------------------------------------------------------------------
CHIP_SIZE_PX = 512  # Sen1Floods11 v1.1
CHIP_PIXEL_DEGREES = 8.983152841195215e-05  # Sen1Floods11 v1.1 chips: 10 m at the equator
CHIP_PIXEL_M = 10.0  # the world is made at this spacing, everywhere
CHIP_SPACING_DEGREES = 0.06  # chosen: chips (0.046 degrees wide) never overlap
CHIPS_A_ROW = 50  # of an event's lattice (chosen)
TILE_SPACING_M = 6400.0  # chosen: external tiles (5120 m wide) never overlap
SCENE_WIDTH_PX = 1400
SCENE_HEIGHT_PX = 1100

# --- Sentinel-1 IW GRD -----------------------------------------------------------------------------------------------
# Sentinel-1 Product Definition (MPC-0239), IW GRD high resolution: ENL 4.4 before terrain correction, which then
# interpolates bilinearly at any offset: variance x (1 - (1 - r) / 3)^2 = 0.73 if neighbours correlate by r = 0.57.
LOOKS = 6.0
# Spacing 10 m against a resolution of 20 x 22 m (same source): neighbours correlate at about 0.6. A Gaussian of this
# sigma gives exp(-1 / (4 sigma^2)) = 0.64 at a lag of one pixel.
RESOLUTION_SIGMA_PX = 0.75
# Noise equivalent sigma nought: specification -22 dB or better (ESA Sentinel-1 performance guide), in flight several dB
# better and best in mid-swath. Thermal noise is subtracted on average, its speckle stays.
NOISE_FLOOR_DB = (-31.5, -27.5)
NOISE_RESIDUE = 0.10  # share of the noise floor below which subtracted power is bent to stay positive (chosen)
AMBIGUITY_DB = -22.0  # power of the surroundings that folds into every pixel (same guide: distributed targets)
RESIDUAL_DB = -32.5  # what inexact noise subtraction leaves on the darkest surfaces, both bands (chosen)
INCIDENCE_DEGREES = (31.0, 45.0)  # IW swath, 29.1 to 46.0 degrees (Product Definition)
REFERENCE_INCIDENCE_DEGREES = 38.0
# Local incidence changes by this much over a metre of ground range: (46 - 29.1) degrees / 250 km.
INCIDENCE_DEGREES_PER_M = 6.8e-5
SLOPE_GAIN_DB = (-16.0, 9.0)  # limits of the terrain's area effect (chosen: foreshortening saturates)


@dataclasses.dataclass(frozen=True)
class Scatterer:
    """Mean backscatter of a land cover at 38 degrees.

    Attributes:
        vv_db, vh_db: mean sigma nought.
        parcel_db: standard deviation between parcels or patches.
        texture_db: standard deviation inside a patch beyond speckle.
        slope_db: change per degree of incidence.
    """

    vv_db: float
    vh_db: float
    parcel_db: float
    texture_db: float
    slope_db: float


# Land covers; the order is the class number.
FOREST, GRASS, CROP, PLOUGHED, SMOOTH_SOIL, SAND, SHRUB, URBAN, TARMAC = range(9)
COVER_NAMES = ("forest", "grass", "crop", "ploughed", "smooth soil", "sand", "shrub", "urban", "tarmac")

# Angle slopes: forest -0.1, vegetation -0.13, bare soil -0.2 dB/degree (Ulaby & Dobson 1989, C-band statistics).
SCATTERERS = (
    # Rainforest gamma nought VV -6.5, VH -12.5 dB over the Amazon (Hawkins et al. 2018): sigma nought -7.5, -13.5.
    Scatterer(-7.9, -13.8, 0.6, 0.3, -0.10),
    # Grassland VV -10 to -14, VH -16 to -21 (Torbick et al. 2017; Ulaby & Dobson 1989).
    Scatterer(-10.9, -17.4, 1.1, 0.4, -0.13),
    # Cereals and maize over a season VV -8 to -14, VH -14 to -20 (Veloso et al. 2017).
    Scatterer(-10.0, -16.2, 1.5, 0.3, -0.13),
    # Rough bare soil VV -8 to -13, VH -18 to -22 (Veloso et al. 2017; Baghdadi et al. 2016).
    Scatterer(-10.2, -18.9, 1.4, 0.4, -0.20),
    # Seed beds and slaked soil, rms height under 1 cm: VV -14 to -18, VH -22 to -27 (Baghdadi et al. 2016; the
    # look-alikes of Martinis et al. 2015).
    Scatterer(-15.8, -24.4, 1.6, 0.4, -0.22),
    # Dry sand and lake beds VV -17 to -24, VH below -26, as dark as water (Martinis et al. 2018, Sand Exclusion Layer).
    Scatterer(-20.0, -27.4, 1.2, 0.8, -0.25),
    # Savanna and dry shrub VV -12 to -15, VH -19 to -23 (Ulaby & Dobson 1989).
    Scatterer(-12.2, -19.4, 1.2, 0.7, -0.13),
    # Towns VV -2 to -8, VH -9 to -15 with bright single buildings (Koppel et al. 2017).
    Scatterer(-6.0, -13.4, 1.0, 2.8, -0.05),
    # Asphalt: specular, VV -17 to -22, VH below -26 (Ulaby & Dobson 1989, roads).
    Scatterer(-18.6, -26.8, 0.8, 0.4, -0.25),
)

# Wetting of bare soil and sparse cover, dB from dry to saturated: 3 to 5 dB for C-band VV (Baghdadi et al. 2016).
SOIL_MOISTURE_DB = 3.0
MOIST_COVERS = (GRASS, PLOUGHED, SMOOTH_SOIL, SHRUB)

# Open water, VV: own fit to CMOD5.N (Hersbach 2008) averaged over wind direction, within 0.8 dB for 1 to 12 m/s and
# 32 to 44 degrees: sigma = a + b log10(U) + c (theta - 38).
WATER_VV_DB = (-28.3, 14.0, -0.50)
# Open water, VH: sigma = a + b U, Vachon & Wolfe 2011 (RADARSAT-2), no clear change with incidence.
WATER_VH_DB = (-35.6, 0.59)
WIND_RANGE_MS = (1.0, 12.0)
WIND_CHIP_SIGMA = 0.3  # log standard deviation between chips of an event, some 100 km apart (chosen)
WIND_GUST_SIGMA = 0.38  # log standard deviation of patches over a chip (chosen: cat's paws of a factor 1.5)
WIND_PATCH_M = (500.0, 4000.0)
# Short fetch: wind waves of a few centimetres need some 100 m of open water; sheltered water keeps this share.
SHELTERED_WIND = 0.40
FETCH_M = 90.0
# Vegetation standing in water: stems and surface make corner reflectors, VV rises by 2 to 5 dB, VH hardly (Tsyganskaya
# et al. 2018, review of flooded vegetation in SAR).
FLOODED_FOREST_GAIN_DB = (3.6, 0.8)
FLOODED_VEGETATION_GAIN_DB = (2.0, -0.6)
STEM_SHARE = 0.05  # stems, crop residue and debris above flooded fields, share of area at full vigour (chosen)
VEGETATION_HEIGHT_M = (12.0, 0.25, 0.55, 0.05, 0.02, 0.02, 0.7, 6.0, 0.02)  # by land cover (chosen)
VISIBLE_WATER_SHARE = 0.5  # truth is open water: more than half of the pixel's surface

# --- Terrain and water -----------------------------------------------------------------------------------------------
TERRAIN_SPECTRAL_SLOPE = 3.4  # 2-D power k^-3.4: Hurst exponent 0.7, fractal dimension 2.3 (Turcotte 1997, ch. 7)
HILL_ROUGHNESS = 0.35  # of the biome's relief (chosen: mountain slopes have a median of 15 to 20 degrees)
VALLEY_WALL_M = 2200.0  # over which the land rises by the biome's relief (chosen)
TARMAC_PROBABILITY = 0.15  # of a chip to hold an airfield, car park or solar park (chosen)
MEANDER_WAVELENGTH_IN_WIDTHS = 10.9  # Leopold & Wolman 1960: wavelength 10.9 w^1.01
SCROLL_BAR_SPACING_IN_WIDTHS = 0.9  # ridges of a migrating meander, about a channel width apart (Strick et al. 2018)
SCROLL_BAR_HEIGHT_M = 0.4  # chosen
MICRO_RELIEF_M = 0.9  # standard deviation over a floodplain (chosen)
MICRO_RELIEF_SHORTEST_M = 150.0  # finer relief floods and dries below the pixel (chosen)
RIVER_WIDTH_M = (170.0, 0.6)  # median and log standard deviation (chosen: large rivers, which have flood warnings)
RIVER_WIDTH_RANGE_M = (60.0, 600.0)
BROOK_PROBABILITY = 0.5  # of a chip (chosen)
BROOK_WIDTH_M = (8.0, 40.0)  # chosen
PARCEL_STEP_M = 0.22  # levelled fields behind bunds (chosen)
ROAD_EMBANKMENT_M = 2.5  # chosen
HAND_FLOODPLAIN_M = 1.6  # height above nearest drainage of a dry floodplain (Nobre et al. 2011: below 5 m)


@dataclasses.dataclass(frozen=True)
class Biome:
    """What a region looks like; all chosen, after the real events' surroundings. Shares are of the chip's land.

    Attributes:
        relief_m: height of the hills above the floodplain.
        floodplain_m: half width of the floodplain.
        forest, farmland, shrub, sand, urban: shares of land; the rest is grass. Without sand there are no sand bars:
            humid banks are muddy and overgrown.
        smooth: share of fields that are smooth and bare.
        ploughed: share of fields that are rough and bare.
        parcel_m: width of a field.
        lakes: share of permanent lakes and ponds.
        cloudiness: probability that a chip has clouds.
        soil: brightness of soil and sand relative to the table.
    """

    relief_m: float
    floodplain_m: float
    forest: float
    farmland: float
    shrub: float
    sand: float
    urban: float
    smooth: float
    ploughed: float
    parcel_m: float
    lakes: float
    cloudiness: float
    soil: float


BIOMES = {
    "delta": Biome(6, 3500, 0.12, 0.65, 0.00, 0.00, 0.04, 0.12, 0.12, 110, 0.020, 0.55, 0.9),
    "farmland": Biome(40, 1500, 0.14, 0.62, 0.00, 0.00, 0.05, 0.15, 0.20, 230, 0.008, 0.35, 1.0),
    "savanna": Biome(35, 1500, 0.18, 0.15, 0.42, 0.04, 0.02, 0.20, 0.20, 130, 0.006, 0.45, 1.1),
    "arid": Biome(70, 1300, 0.02, 0.22, 0.48, 0.14, 0.02, 0.26, 0.24, 160, 0.004, 0.15, 1.3),
    "rainforest": Biome(45, 1600, 0.62, 0.12, 0.00, 0.00, 0.02, 0.08, 0.10, 150, 0.012, 0.60, 0.85),
    "mountains": Biome(300, 350, 0.34, 0.18, 0.14, 0.03, 0.03, 0.12, 0.16, 110, 0.004, 0.45, 1.0),
    "chaco": Biome(8, 2600, 0.36, 0.22, 0.12, 0.02, 0.01, 0.12, 0.14, 420, 0.022, 0.30, 0.95),
}


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Ranges from which an event draws its day, uniformly unless said otherwise; all chosen.

    Attributes:
        wind_ms: Rayleigh scale of wind speed at 10 m: mean 4.0 m/s; 3.3 m/s is the mean over land (Archer & Jacobson
            2005), floods come with weather.
        moisture: 0 dry soil to 1 saturated.
        vigour: greenness of vegetation, 0 senescent to 1 full.
        turbidity: of flood water, 0 clear to 1 like milk coffee.
        sun_elevation_degrees: at the Sentinel-2 overpass, 10:30 local time.
        haze: optical share of haze over the whole image.
        bias_db: calibration and seasonal offset common to land, standard deviation (absolute accuracy 1 dB at three
            sigma, ESA performance guide, plus season).
        cover_db: standard deviation between events of a land cover's own mean: species, structure and season, within
            the ranges quoted at `SCATTERERS`, which are such differences between sites and dates.
        cover_vh_db: the same for what VH does on its own.
        flood: shape of the flooded share, which is `flood_max` x u^`flood_power` for u uniform over chips.
    """

    wind_ms: float = 3.2
    moisture: tuple[float, float] = (0.1, 1.0)
    vigour: tuple[float, float] = (0.45, 1.0)
    turbidity: tuple[float, float] = (0.1, 1.0)
    sun_elevation_degrees: tuple[float, float] = (32.0, 68.0)
    haze: tuple[float, float] = (0.0, 0.12)
    bias_db: float = 0.6
    cover_db: float = 1.2
    cover_vh_db: float = 0.6
    flood_max: float = 0.27
    flood_power: float = 2.6


CONDITIONS = Conditions()

# --- Sentinel-2 ------------------------------------------------------------------------------------------------------
# Surface reflectance, bands B1..B8, B8A, B9..B12. Shapes after the USGS spectral library (Kokaly et al. 2017) and
# the class means of Sentinel-2 land-cover work (Drusch et al. 2012 for the bands); B9 and B10 as their neighbours.
SPECTRA = (
    (0.020, 0.023, 0.042, 0.026, 0.072, 0.190, 0.235, 0.250, 0.262, 0.262, 0.200, 0.120, 0.052),  # forest
    (0.030, 0.042, 0.075, 0.066, 0.120, 0.240, 0.280, 0.290, 0.310, 0.310, 0.280, 0.215, 0.120),  # grass
    (0.025, 0.034, 0.070, 0.042, 0.110, 0.300, 0.370, 0.380, 0.400, 0.400, 0.300, 0.185, 0.090),  # crop
    (0.070, 0.085, 0.115, 0.145, 0.165, 0.180, 0.195, 0.205, 0.220, 0.220, 0.270, 0.280, 0.240),  # ploughed soil
    (0.085, 0.105, 0.140, 0.175, 0.195, 0.210, 0.225, 0.235, 0.250, 0.250, 0.310, 0.320, 0.280),  # smooth soil
    (0.140, 0.180, 0.240, 0.290, 0.310, 0.325, 0.335, 0.345, 0.355, 0.355, 0.410, 0.430, 0.380),  # sand
    (0.050, 0.062, 0.090, 0.105, 0.140, 0.190, 0.215, 0.225, 0.240, 0.240, 0.300, 0.270, 0.190),  # shrub
    (0.095, 0.110, 0.130, 0.145, 0.155, 0.175, 0.190, 0.195, 0.205, 0.205, 0.230, 0.225, 0.200),  # urban
    (0.065, 0.070, 0.080, 0.090, 0.096, 0.103, 0.110, 0.118, 0.124, 0.124, 0.140, 0.145, 0.130),  # tarmac
)
# Clear lake and muddy flood water: near-infrared rises with suspended matter until NDWI fails (Doxaran et al. 2002;
# Feyisa et al. 2014 for low-albedo and turbid errors of the indices).
CLEAR_WATER = (0.025, 0.025, 0.025, 0.013, 0.010, 0.006, 0.005, 0.004, 0.003, 0.003, 0.002, 0.002, 0.001)
TURBID_WATER = (0.055, 0.075, 0.120, 0.165, 0.170, 0.150, 0.148, 0.145, 0.120, 0.080, 0.025, 0.020, 0.012)
CLOUD_SPECTRUM = (0.66, 0.64, 0.62, 0.63, 0.63, 0.63, 0.63, 0.62, 0.62, 0.45, 0.06, 0.40, 0.30)  # water clouds
VEGETATED = (FOREST, GRASS, CROP, SHRUB)
SENESCENT = (0.060, 0.075, 0.110, 0.145, 0.170, 0.210, 0.235, 0.250, 0.270, 0.270, 0.330, 0.310, 0.210)  # dry plants
# Path reflectance and two-way transmittance of a rural atmosphere, aerosol optical depth near 0.15 (shape of Vermote et
# al. 1997, 6S; B9 sits in water-vapour and B10 in cirrus absorption).
PATH_REFLECTANCE = (0.100, 0.075, 0.043, 0.024, 0.020, 0.016, 0.013, 0.011, 0.009, 0.004, 0.0010, 0.002, 0.001)
TRANSMITTANCE = (0.76, 0.81, 0.87, 0.91, 0.92, 0.93, 0.94, 0.94, 0.95, 0.40, 0.01, 0.95, 0.95)
# Diffuse share of the light, all that a shadow receives: falls with wavelength (Vermote et al. 1997).
DIFFUSE_SHARE = (0.36, 0.30, 0.22, 0.17, 0.15, 0.13, 0.12, 0.11, 0.10, 0.10, 0.10, 0.06, 0.05)
CLOUD_BASE_M = (700.0, 2200.0)  # cumulus over land (chosen)
CLOUD_COVER = (0.04, 0.55)  # of a cloudy hand or weak chip
EXTERNAL_CLOUD_COVER = (0.01, 0.20)  # the paper keeps images under 12 % cloud; tiles vary about their image
SENSOR_NOISE = 0.0015  # reflectance, from SNR 150 to 180 at reference radiance (Drusch et al. 2012)
REFLECTANCE_SCALE = 10000
# Pixels of 10 m that one sample covers: bands of 10, 20 and 60 m (Drusch et al. 2012).
BAND_SAMPLE_PX = (6, 1, 1, 1, 2, 2, 2, 1, 2, 6, 6, 2, 2)

# --- Labels ----------------------------------------------------------------------------------------------------------
NDVI_MAX = 0.2  # Sen1Floods11 (Bonafilia et al. 2020): expert thresholds on NDVI and MNDWI
MNDWI_MIN = 0.3
NDWI_MIN = 0.0  # architecture.md: the paper gives no threshold, NDWI > 0 is the usual one (McFeeters 1996)
CLOUD_MASK_BLUE = 0.50  # opaque clouds alone leave the Sen1Floods11 weak label; thin ones and shadows stay (chosen)
HAND_SMOOTHING_PX = 0.8  # an outline drawn by hand (chosen)
HAND_JITTER = 0.10  # wobble of the outline, in units of the smoothed mask
HAND_SMALLEST_PX = 8  # smaller ponds are not drawn: 0.08 ha (chosen)
HAND_CLOUD_OPACITY = 0.22  # clouds thicker than this hide the ground from the labeller

# --- Awkward chips ---------------------------------------------------------------------------------------------------
NO_LABEL, NO_RADAR, SWATH_EDGE, NO_WATER, ALL_WATER = "no_label", "no_radar", "swath_edge", "no_water", "all_water"
# One chip in four, in this order, from the fourth of a split on (real ones: Ghana_83483, Paraguay_34417, Bolivia,
# Ghana_53713, Sri-Lanka_534068). A chip that is nearly all water would hold a third of the water of a small test or
# validation split and so decide a pooled score alone: such chips are in the training pools only.
AWKWARD_EVERY = 4
AWKWARD = {
    "train": (SWATH_EDGE, NO_WATER, NO_LABEL, ALL_WATER, NO_RADAR, SWATH_EDGE),
    "validation": (SWATH_EDGE, NO_WATER),
    "test": (NO_LABEL, NO_RADAR, SWATH_EDGE, NO_WATER, SWATH_EDGE),
    "bolivia": (SWATH_EDGE,),
    "weak": (NO_WATER, SWATH_EDGE, ALL_WATER, NO_RADAR),
    "external": (NO_WATER, SWATH_EDGE, ALL_WATER, NO_WATER, SWATH_EDGE),
}
SWATH_EDGE_SHARE = (0.08, 0.6)


# --- Events ----------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Event:
    """One flood: name as in file names, where it is, and its biome. Its day is drawn from `CONDITIONS` by its name."""

    name: str
    longitude: float
    latitude: float
    biome: str


# Real events of Sen1Floods11 with places near the real chips. Hand labels are costly and so come from few places, here
# humid plains; floods happen elsewhere too. The weak chips add other regions, the external tiles every region, deserts
# among them, whose dry sand is as dark as water. No event of test or Bolivia is in any training pool but for the
# Bolivian weak chips, which conversion must drop as from the real data.
TRAIN_EVENTS = (
    Event("Mekong", 105.40, 12.70, "delta"),
    Event("Sri-Lanka", 80.50, 7.00, "rainforest"),
    Event("USA", -94.60, 38.40, "farmland"),
)
WEAK_EVENTS = (
    Event("Colombia", -74.60, 8.40, "delta"),  # has weak chips only in the real data too
    Event("Nigeria", 6.60, 7.90, "savanna"),
    Event("Paraguay", -57.90, -25.30, "chaco"),
)
TEST_EVENTS = (
    Event("Ghana", -1.10, 9.30, "savanna"),
    Event("India", 85.60, 26.20, "delta"),
    Event("Pakistan", 68.10, 27.70, "arid"),
    Event("Somalia", 45.20, 4.60, "arid"),
    Event("Spain", -0.90, 38.00, "arid"),  # the dry south-east
)
BOLIVIA = Event("Bolivia", -65.00, -13.80, "rainforest")
SCENE_EVENT = Event("Mozambique", 34.60, -19.70, "farmland")

_EXTERNAL_PLACES = {  # the paper's five countries, section 2.2
    "Bangladesh": ((89.2, 24.6, "delta"), (90.4, 23.1, "delta"), (91.6, 24.7, "farmland"), (89.7, 25.8, "savanna")),
    "Brazil": (
        (-60.3, -3.4, "rainforest"),
        (-51.6, -29.4, "farmland"),
        (-57.1, -18.6, "chaco"),
        (-43.2, -12.7, "arid"),
        (-42.4, -21.2, "mountains"),
    ),
    "Colombia": ((-75.2, 7.6, "savanna"), (-73.7, 4.6, "mountains"), (-71.1, 6.1, "chaco"), (-70.4, 1.4, "rainforest")),
    "India": (
        (82.6, 26.4, "farmland"),
        (93.3, 26.6, "delta"),
        (72.3, 24.6, "arid"),
        (76.4, 31.6, "mountains"),
        (80.9, 17.6, "savanna"),
        (86.7, 20.6, "delta"),
    ),
    "Peru": (
        (-73.9, -5.0, "rainforest"),
        (-80.2, -5.2, "arid"),
        (-75.3, -11.9, "mountains"),
        (-70.2, -15.2, "farmland"),
        (-79.4, -6.7, "arid"),
    ),
}
EXTERNAL_EVENTS = tuple(
    Event(f"{country}-{number:02d}", *place)
    for country, places in _EXTERNAL_PLACES.items()
    for number, place in enumerate(places, start=1)
)
POOLS = (TRAIN_EVENTS, WEAK_EVENTS, TEST_EVENTS, EXTERNAL_EVENTS)  # whose events share out the conditions
