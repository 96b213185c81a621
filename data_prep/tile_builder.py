"""What the TFDS builders of tile datasets share: features, checks, generation, metadata, hashes of the shards."""

import abc
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from etils import epath

from data_prep import tiles, workers
from data_prep.stable_writer import StableWriter
from data_prep.tiles import Chip, Fault, LayerSpec, Summary, Tile
from flood_distill import contract
from flood_distill.beam_settings import Beam
from flood_distill.errors import UserError

_HASH_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a builder is going to convert.

    Attributes:
        chips: by split, splits without chips included.
        specs: the layers of every chip.
        unknown: evaluation chips whose footprint is not known.
        excluded: ids of chips kept out of training, by reason.
        notes: what the user should know, one line each.
    """

    chips: dict[str, list[Chip]]
    specs: Sequence[LayerSpec]
    unknown: list[Fault] = dataclasses.field(default_factory=list)
    excluded: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def features(specs: Sequence[LayerSpec], imagery: contract.Imagery) -> tfds.features.FeaturesDict:
    """Returns the features of a record made of these layers (the table in the contract module)."""
    size = (imagery.tile_size_px, imagery.tile_size_px)
    dtypes = {contract.S1: contract.S1_DTYPE, contract.S2: contract.S2_DTYPE}
    arrays = {
        feature: ((*size, len(imagery.feature_bands[feature])), dtypes[modality])
        for modality, dates in imagery.dates.items()
        for feature in dates
    }
    arrays |= dict.fromkeys((contract.LABEL, contract.PERMANENT_WATER), (size, contract.LABEL_DTYPE))
    names = [spec.feature for spec in specs]
    # Plain bytes: zlib would save 18 % of the space and cost half of the reading speed.
    found = {
        name: tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)
        for name, (shape, dtype) in arrays.items()
        if name in names
    }
    found[contract.HAS_S2] = tfds.features.Scalar(np.bool_)
    if contract.PERMANENT_WATER in names:
        found[contract.HAS_PERMANENT_WATER] = tfds.features.Scalar(np.bool_)
    for name in (contract.CHIP_ID, contract.EVENT, contract.SOURCE, contract.CRS):
        found[name] = tfds.features.Text()
    found[contract.TRANSFORM] = tfds.features.Tensor(shape=(6,), dtype=np.float64)
    return tfds.features.FeaturesDict(found)


def source_of(input_dir: Path) -> str:
    """Returns whether a folder of tiles is ``real`` or ``synthetic``."""
    return contract.SOURCE_REAL if tiles.find_marker(input_dir) is None else contract.SOURCE_SYNTHETIC


class TileBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Converts folders of GeoTIFF tiles. Subclasses say which chips there are (`plan`) and name their configs.

    Faulty chips raise a `UserError` that lists every fault of every chip, before or instead of the dataset; with
    `allow_missing` they are left out and listed in `faults` and in the dataset's metadata.

    Attributes:
        reader: the module whose `header_faults`, `pixel_faults` and `read_or_faults` read a chip's files.
    """

    reader = tiles
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Tiles of 320 x 320 pixels of 16 m in the UTM zone of their centre."}

    def __init__(
        self,
        *,
        allow_missing: bool = False,
        sen1floods11_dir: str | None = None,
        num_workers: int | None = None,
        beam: Beam | None = None,
        records_dir: str | os.PathLike | None = None,
        **kwargs,
    ):
        """Takes the arguments of `tfds.core.GeneratorBasedBuilder` and

        Args:
            allow_missing: leave faulty chips out instead of raising.
            sen1floods11_dir: where Sen1Floods11's tiles are, whose evaluation ground is excluded from training data;
                needed by builders of other datasets only.
            num_workers: processes that read and warp tiles; 0 for none, None for one a core (none for few tiles). The
                dataset is the same to the last byte.
            beam: read and warp tiles in a Beam pipeline; runner and options come with the DownloadConfig.
            records_dir: root of datasets converted earlier, if not the one that is written to.
        """
        self.allow_missing = allow_missing
        self.sen1floods11_dir = Path(sen1floods11_dir) if sen1floods11_dir else None
        self.num_workers = num_workers
        self.beam = beam
        self.faults: list[Fault] = []
        self._workers = workers.Workers(0)
        self._chips: dict[str, list[Chip]] = {}
        self._summaries: dict[str, list[Summary]] = {}
        self._plan: Plan | None = None
        self._source = contract.SOURCE_REAL
        self._progress: tqdm.tqdm | None = None
        super().__init__(**kwargs)
        self.records_dir = Path(records_dir or self._data_dir_root)

    @property
    def dataset(self) -> str:
        """``NAME/CONFIG``."""
        return f"{self.name}/{self.builder_config.name}"

    @property
    def notes(self) -> list[str]:
        """What the user should know about the conversion, one line each."""
        return [] if self._plan is None else self._plan.notes

    @property
    @abc.abstractmethod
    def layers(self) -> Sequence[LayerSpec]:
        """The layers of this config's chips."""

    @abc.abstractmethod
    def make_plan(self, input_dir: Path) -> Plan:
        """Lists the chips of a folder by split.

        Raises:
            UserError: if the folder does not hold this dataset.
        """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=features(self.layers, contract.imagery(self.dataset)),
            metadata=tfds.core.MetadataDict(),
            homepage=self.HOMEPAGE,
        )

    @property
    def read(self) -> Callable[[Chip], Tile | list[Fault]]:
        """A function that can be pickled: reads and warps a chip, or returns its faults."""
        return functools.partial(self.reader.read_or_faults, specs=self.layers)

    def _example_writer(self) -> StableWriter:
        return StableWriter(self.info.file_format)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        input_dir = Path(dl_manager.manual_dir)
        self._source = source_of(input_dir)
        self._plan = self.make_plan(input_dir)
        worthwhile = workers.worthwhile_workers(sum(map(len, self._plan.chips.values())))
        self._workers = workers.Workers(worthwhile if self.num_workers is None else self.num_workers)
        self._chips = self._complete_chips(self._plan)
        if self.beam is not None:
            return self._transforms(input_dir)
        num_chips = sum(map(len, self._chips.values()))
        self._progress = tqdm.tqdm(total=num_chips, desc="Converting", unit="tile", mininterval=1.0)
        return {split: self._generate_examples(split, some) for split, some in self._chips.items()}

    def _generate_examples(self, split: str, chips: Sequence[Chip]) -> Iterator[tuple[str, dict]]:
        summaries = self._summaries.setdefault(split, [])
        for chip, tile in zip(chips, self._workers.map(self.read, chips), strict=True):
            self._progress.update()
            if isinstance(tile, Tile):
                summaries.append(tile.summary)
                yield chip.chip_id, tile.features | {contract.SOURCE: self._source}
            elif self.allow_missing:
                self.faults += tile
            else:
                raise UserError(fault_list(self._all_faults(self._plan)))

    def _transforms(self, input_dir: Path) -> dict:
        from data_prep import beam_conversion  # needs the extra

        read = self.read
        if self.beam.input_dir is not None:
            read = functools.partial(beam_conversion.read_elsewhere, read, input_dir, self.beam.input_dir)
        return {
            split: beam_conversion.ReadTiles(chips, read, self._source, self._report_path(split))
            for split, chips in self._chips.items()
        }

    def _take_reports(self) -> None:
        from data_prep import beam_conversion

        faults = []
        for split, chips in self._chips.items():
            self._summaries[split], some = beam_conversion.take_report(self._report_path(split), chips)
            faults += some
        if faults and not self.allow_missing:
            raise UserError(fault_list(faults))
        self.faults += faults

    def _report_path(self, split: str) -> epath.Path:
        return epath.Path(self.data_path) / f"report_{split}.json"

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        try:
            super()._download_and_prepare(dl_manager, download_config)
        finally:
            self._workers.close()
            if self._progress is not None:
                self._progress.close()
        if self.beam is not None:
            self._take_reports()
        # Still under TFDS's temporary name: metadata and hashes appear together with the shards or not at all.
        self.info.metadata.update(self._metadata(self._plan))
        write_shard_hashes(epath.Path(self.data_path))

    def _complete_chips(self, plan: Plan) -> dict[str, list[Chip]]:
        """Returns the chips to convert, by split that has any."""
        faults = [] if self.allow_missing else list(plan.unknown)
        faults += self._find_faults(plan, self.reader.header_faults, "Checking")
        if faults and not self.allow_missing:
            raise UserError(fault_list(self._all_faults(plan)))
        self.faults = faults
        faulty = {fault.chip_id for fault in faults}
        chips = {split: [chip for chip in some if chip.chip_id not in faulty] for split, some in plan.chips.items()}
        if self.allow_missing or self.beam is not None:
            chips = {split: self._from_first_readable(some) for split, some in chips.items()}
        if self.faults and not self.allow_missing:
            raise UserError(fault_list(self._all_faults(plan)))
        chips = {split: some for split, some in chips.items() if some}
        if not chips:
            raise UserError(fault_list(self.faults) if self.faults else "no chip is left to convert")
        return chips

    def _from_first_readable(self, chips: Sequence[Chip]) -> Sequence[Chip]:
        """Drops the chips before the first that can be read: TFDS refuses a split that turns out empty."""
        for index, chip in enumerate(chips):
            faults = self.reader.pixel_faults(chip, self.layers)
            if not faults:
                return chips[index:]
            self.faults += faults
        return []

    def _all_faults(self, plan: Plan) -> list[Fault]:
        faults = plan.unknown + self._find_faults(plan, self.reader.pixel_faults, "Looking for all faults")
        return list(dict.fromkeys(faults))

    def _find_faults(self, plan: Plan, check: Callable, description: str) -> list[Fault]:
        chips = [chip for some in plan.chips.values() for chip in some]
        found = self._workers.map(functools.partial(check, specs=plan.specs), chips)
        progress = tqdm.tqdm(found, total=len(chips), desc=description, unit="chip", leave=False, mininterval=1.0)
        return [fault for faults in progress for fault in faults]

    def _metadata(self, plan: Plan) -> dict:
        found = self._summaries
        metadata = {
            contract.SOURCE: self._source,
            contract.NUM_WITH_S2: {s: sum(t.has_s2 for t in found[s]) for s in found},
            contract.OUTSIDE_SHARE: {s: float(np.mean([t.outside_share for t in found[s]])) for s in found},
            contract.CUT_SHARE: {s: float(np.mean([t.cut_share for t in found[s]])) for s in found},
            contract.LEFT_OUT: [str(fault) for fault in self.faults],
            contract.EXCLUDED: plan.excluded,
            contract.EXCLUSION_UNKNOWN: sorted(fault.chip_id for fault in plan.unknown),
        }
        if self.dataset == contract.HAND:
            metadata[contract.FOOTPRINTS] = {split: {t.chip_id: t.footprint for t in found[split]} for split in found}
        return metadata


def fault_list(faults: Sequence[Fault]) -> str:
    """Returns one line that counts, then one line a fault."""
    num_chips = len({fault.chip_id for fault in faults})
    are = "chip is" if num_chips == 1 else "chips are"
    lines = [f"{num_chips} {are} incomplete or damaged; mend these files, or leave them out by --allow_missing"]
    return "\n".join(lines + [f"  {fault}" for fault in faults])


def write_shard_hashes(dataset_dir: epath.Path) -> None:
    """Writes `contract.SHARD_HASHES_JSON`: the SHA-256 of every shard, by file name."""
    shards = sorted(dataset_dir.glob("*.tfrecord*"))
    hashes = {shard.name: sha256(_blocks(shard)) for shard in shards}
    (dataset_dir / contract.SHARD_HASHES_JSON).write_text(json.dumps(hashes, indent=1) + "\n")


def sha256(blocks: Iterable[bytes]) -> str:
    """Returns the hexadecimal SHA-256 of concatenated blocks."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: epath.Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            yield block
