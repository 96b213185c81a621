"""Which chips there are, and the arrays of each one."""

import dataclasses

import numpy as np

from data_prep.synthetic import days, ground, labels, noise, optical, radar, world
from flood_distill import contract

HAND_SPLITS = ("train", "validation", "test", "bolivia")
_MODEL_BANDS = tuple(index - 1 for index in contract.S2_FILE_INDICES)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Number of chips of each split and of external tiles."""

    train: int = 24
    validation: int = 10
    test: int = 20
    bolivia: int = 4
    weak: int = 36
    external: int = 96


@dataclasses.dataclass(frozen=True)
class Spec:
    """One chip to make: split, event, its number within the event (its place and seed) and its awkwardness."""

    split: str
    event: world.Event
    number: int
    quirk: str = ""

    @property
    def name(self) -> str:
        """Event and chip id as in file names; ids are not consecutive, as in the real data."""
        return f"{self.event.name}_{10007 + 1013 * self.number}"


@dataclasses.dataclass(frozen=True)
class Chip:
    """Arrays of a chip [height, width] or [bands, height, width] with the dtypes of the files.

    Attributes:
        s1: float32 dB (VV, VH), NaN no data.
        s2: int16 reflectance x 10000, 0 no data.
        label: int16 hand or weak label, -1 no data.
        truth: bool, open water; never written beside training data.
        permanent: uint8.
        weak: int16, what the split's index thresholds would say.
    """

    s1: np.ndarray
    s2: np.ndarray
    label: np.ndarray
    truth: np.ndarray
    permanent: np.ndarray
    weak: np.ndarray


def plan(sizes: Sizes) -> list[Spec]:
    """Returns every chip of a world; a smaller world holds the first chips of a larger one's splits."""
    events = {
        "train": world.TRAIN_EVENTS,
        "validation": world.TRAIN_EVENTS,
        "test": world.TEST_EVENTS,
        "bolivia": (world.BOLIVIA,),
        "weak": (*world.TRAIN_EVENTS, *world.WEAK_EVENTS, world.BOLIVIA),
        "external": world.EXTERNAL_EVENTS,
    }
    # Each split owns a range of numbers, so no two chips of an event share a place or a seed.
    first = {"train": 0, "validation": 1000, "test": 0, "bolivia": 0, "weak": 2000, "external": 0}
    specs = []
    for split, split_events in events.items():
        for index in range(getattr(sizes, split)):
            number = first[split] + index // len(split_events)
            specs.append(Spec(split, split_events[index % len(split_events)], number, _quirk(split, index)))
    return specs


def _quirk(split: str, index: int) -> str:
    turn, remainder = divmod(index + 1, world.AWKWARD_EVERY)
    quirks = world.AWKWARD[split]
    return quirks[turn - 1] if remainder == 0 and turn <= len(quirks) else ""


def make_chip(spec: Spec) -> Chip:
    """Makes the arrays of a chip; the same arrays whatever was made before it.

    An external tile is made at 10 m and sampled bilinearly at 16 m in the unit stored, as Earth Engine is asked to.
    """
    shape = (world.CHIP_SIZE_PX, world.CHIP_SIZE_PX)
    external = spec.split == "external"
    day = days.draw(spec.event)
    land = ground.make(spec.event, spec.number, shape, spec.quirk)
    s1 = radar.backscatter(land, day, noise.generator("radar", spec.event.name, spec.number))
    sky = _sky(spec, day, shape)
    bands = _MODEL_BANDS if external else optical.ALL_BANDS
    s2 = optical.reflectance(land, day, sky, noise.generator("optical", spec.event.name, spec.number), bands)
    truth, permanent = land.water, labels.permanent_water(land.permanent)
    if external:
        s1 = sample_bilinear(s1)
        s2 = np.rint(sample_bilinear(s2.astype(np.float32))).astype(np.int16)
        truth, permanent = sample_nearest(truth), sample_nearest(permanent)
    weak = labels.external_weak_label(s2) if external else labels.sen1floods11_weak_label(s2)
    by_hand = spec.split in HAND_SPLITS
    label = labels.hand_label(truth, sky, noise.generator("hand", spec.name)) if by_hand else weak
    return _apply_quirk(spec, Chip(s1, s2, label, truth, permanent, weak))


def _sky(spec: Spec, day: days.Day, shape: tuple[int, int]) -> optical.Sky:
    rng = noise.generator("sky", spec.event.name, spec.number)
    probability = world.BIOMES[spec.event.biome].cloudiness
    if spec.quirk == world.NO_LABEL:
        return optical.Sky(np.full(shape, 0.93, np.float32), np.ones(shape, np.float32))
    cover = world.EXTERNAL_CLOUD_COVER if spec.split == "external" else world.CLOUD_COVER
    return optical.make_sky(day, rng, shape, cover, probability)


def _apply_quirk(spec: Spec, chip: Chip) -> Chip:
    if spec.quirk == world.NO_RADAR:
        return dataclasses.replace(chip, s1=np.full_like(chip.s1, np.nan))
    if spec.quirk == world.NO_LABEL:
        return dataclasses.replace(chip, label=np.full_like(chip.label, contract.IGNORE_LABEL))
    if spec.quirk == world.SWATH_EDGE:
        rng = noise.generator("edge", spec.event.name, spec.number)
        s1 = chip.s1.copy()
        s1[:, radar.swath_edge(rng, s1.shape[1:], rng.uniform(*world.SWATH_EDGE_SHARE))] = np.nan
        return dataclasses.replace(chip, s1=s1)
    return chip


def make_scene(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the larger scene's S1, float32 [2, height, width] dB with NaN edges, and truth, uint8 [height, width].

    The truth is 1 water, 0 dry, 255 where the radar has no data.
    """
    event = world.SCENE_EVENT
    land = ground.make(event, 0, shape)
    s1 = radar.backscatter(land, days.draw(event), noise.generator("radar", event.name, 0))
    outside = radar.swath_edge(noise.generator("edge", event.name, 0), shape, 0.06)
    s1[:, outside] = np.nan
    return s1, np.where(outside, contract.MASK_NODATA, land.water).astype(np.uint8)


def _positions() -> np.ndarray:
    """Centres of the 16 m pixels in units of 10 m pixels, counted from the first pixel's centre."""
    ratio = contract.PIXEL_SIZE_M / world.CHIP_PIXEL_M
    return ((np.arange(contract.TILE_SIZE_PX) + 0.5) * ratio - 0.5).astype(np.float32)


def sample_bilinear(bands: np.ndarray) -> np.ndarray:
    """Samples float32 [bands, 512, 512] at 10 m to [bands, 320, 320] at 16 m."""
    position = _positions()
    low = np.floor(position).astype(int)
    part = position - low.astype(np.float32)
    rest = np.float32(1.0) - part
    rows = bands[:, low] * rest[:, None] + bands[:, low + 1] * part[:, None]
    return rows[:, :, low] * rest + rows[:, :, low + 1] * part


def sample_nearest(mask: np.ndarray) -> np.ndarray:
    """Samples [512, 512] at 10 m to [320, 320] at 16 m."""
    index = np.floor(_positions() + 0.5).astype(int)
    return mask[index][:, index]
