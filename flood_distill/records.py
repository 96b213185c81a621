"""Reads converted datasets: plain TFDS, with a check of every shard's bytes before its first use."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tqdm

from flood_distill import contract, object_store, quiet
from flood_distill.errors import UserError

_BLOCK_BYTES = 1 << 22
_PROGRESS_FROM_BYTES = 1 << 30  # a second or two of hashing needs no progress bar
_verified: set[str] = set()  # shards whose hash this process has checked


@dataclasses.dataclass(frozen=True)
class Records:
    """A converted dataset.

    Attributes:
        path: its folder, with the version.
        name: ``NAME/CONFIG``.
        source: ``real`` or ``synthetic``.
        splits: number of examples by split.
        metadata: the dataset's metadata (keys in the contract module).
        chip_ids: by split, the chips to which `only` has restricted it.
    """

    path: str
    name: str
    source: str
    splits: Mapping[str, int]
    metadata: Mapping
    chip_ids: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def imagery(self) -> contract.Imagery:
        """What its images hold."""
        return contract.imagery(self.name)

    @property
    def features(self) -> Sequence[str]:
        """Names of the features that its examples have."""
        return list(_builder(self.path).info.features)

    def only(self, chip_ids: Sequence[str], split: str = contract.TRAIN_SPLIT) -> "Records":
        """Returns the same dataset with no other chips in a split than these; reads the split's names once.

        Raises:
            UserError: if the split has no such chip.
        """
        names = (contract.CHIP_ID, contract.HAS_S2)
        examples = self.dataset(split, features=names).as_numpy_iterator()
        has_s2 = {example[contract.CHIP_ID].decode(): bool(example[contract.HAS_S2]) for example in examples}
        if unknown := [chip_id for chip_id in chip_ids if chip_id not in has_s2]:
            raise UserError(f"{self.path}: split {split} has no chip {unknown[0]} ({len(unknown)} of the list missing)")
        num_with_s2 = {**self.metadata[contract.NUM_WITH_S2], split: sum(has_s2[chip_id] for chip_id in chip_ids)}
        return dataclasses.replace(
            self,
            splits={**self.splits, split: len(chip_ids)},
            metadata={**self.metadata, contract.NUM_WITH_S2: num_with_s2},
            chip_ids={**self.chip_ids, split: tuple(chip_ids)},
        )

    def num_examples(self, split: str) -> int:
        """Returns the number of tiles of a split.

        Raises:
            UserError: if there is no such split.
        """
        self._check_split(split)
        return self.splits[split]

    def num_with_s2(self, split: str) -> int:
        """Returns the number of tiles of a split that have Sentinel-2, without reading them.

        Raises:
            UserError: if there is no such split.
        """
        self._check_split(split)
        return self.metadata[contract.NUM_WITH_S2][split]

    def dataset(
        self, split: str, features: Sequence[str] | None = None, shuffle_seed: int | None = None
    ) -> tf.data.Dataset:
        """Returns one pass over a split.

        Args:
            split: such as ``train``.
            features: names of the features to decode; None decodes all.
            shuffle_seed: order of the shards; None keeps the order on disk, which TFDS shuffled by chip id. The order
                depends on nothing else and is the same in every pass.

        Returns:
            A dataset of dicts by feature name (dtypes and shapes: contract module).

        Raises:
            UserError: if there is no such split or feature, or a shard is missing or has changed.
        """
        import tensorflow_datasets as tfds

        self._check_split(split)
        self.verify(split)
        builder = _builder(self.path)
        read_config = tfds.ReadConfig(
            try_autocache=False,
            shuffle_seed=shuffle_seed,
            shuffle_reshuffle_each_iteration=False,
            interleave_cycle_length=1 if shuffle_seed is None else 16,
            skip_prefetch=True,
        )
        decoded = features if features is None or split not in self.chip_ids else {*features, contract.CHIP_ID}
        decoders = None if features is None else tfds.decode.PartialDecoding(self._feature_tree(builder, decoded))
        with quiet.only_errors():
            examples = builder.as_dataset(
                split=split, decoders=decoders, read_config=read_config, shuffle_files=shuffle_seed is not None
            )
        if split not in self.chip_ids:
            return examples
        wanted = tf.constant(self.chip_ids[split])
        chosen = examples.filter(lambda example: tf.reduce_any(example[contract.CHIP_ID] == wanted))
        return chosen.map(lambda example: {name: example[name] for name in features or example})

    def verify(self, split: str | None = None) -> None:
        """Compares every shard of a split (None: of all) with its recorded SHA-256, once per process.

        Raises:
            UserError: naming the shard that is missing or has changed.
        """
        hashes = self._shard_hashes()
        for name in self._shards(split):
            if name not in hashes:
                raise UserError(f"{self.path}/{contract.SHARD_HASHES_JSON}: has no hash of {name}; convert again")
        todo = [name for name in self._shards(split) if f"{self.path}/{name}" not in _verified]
        for name in todo:  # all of them before the first long read
            if not tf.io.gfile.exists(f"{self.path}/{name}"):
                raise UserError(f"{self.path}/{name}: shard is missing; convert the dataset again with --overwrite")
        num_bytes = sum(tf.io.gfile.stat(f"{self.path}/{name}").length for name in todo)
        quiet = num_bytes < _PROGRESS_FROM_BYTES
        with tqdm.tqdm(total=num_bytes, desc="Checking shards", unit="B", unit_scale=True, disable=quiet) as progress:
            for name in todo:
                if _sha256(f"{self.path}/{name}", progress) != hashes[name]:
                    raise UserError(
                        f"{self.path}/{name}: shard has changed since the conversion (SHA-256 differs); "
                        "copy it again or convert the dataset again with --overwrite"
                    )
                _verified.add(f"{self.path}/{name}")

    def _shards(self, split: str | None) -> list[str]:
        infos = _builder(self.path).info.splits
        names = list(self.splits) if split is None else [split]
        return [os.path.basename(path) for name in names for path in infos[name].filepaths]

    def _shard_hashes(self) -> dict[str, str]:
        path = f"{self.path}/{contract.SHARD_HASHES_JSON}"
        if not tf.io.gfile.exists(path):
            raise UserError(f"{path}: missing, so the shards cannot be checked; convert the dataset again")
        with tf.io.gfile.GFile(path) as file:
            return json.load(file)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise UserError(f"{self.path}: has no split {split!r}, only {', '.join(self.splits)}")

    def _feature_tree(self, builder, features: Sequence[str]) -> dict[str, bool]:
        if unknown := sorted(set(features) - set(builder.info.features)):
            there = ", ".join(builder.info.features)
            raise UserError(f"{self.path}: has no feature {', '.join(unknown)}, only {there}")
        return dict.fromkeys(features, True)


def load(data_dir: str | os.PathLike, dataset: str) -> Records:
    """Opens a converted dataset.

    Args:
        data_dir: root of converted datasets.
        dataset: ``NAME/CONFIG``, such as ``sen1floods11/hand``.

    Raises:
        UserError: if it is not there or cannot be read.
    """
    object_store.connect(data_dir)
    path = _find_version(os.fspath(data_dir), dataset)
    try:
        contract.imagery(dataset)
        info = _builder(path).info
        metadata = dict(info.metadata)
        splits = {name: split.num_examples for name, split in info.splits.items()}
        return Records(path, dataset, metadata[contract.SOURCE], splits, metadata)
    except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is no dataset of data_prep.convert ({reason}); convert it again") from error


def stacked(records: Records, split: str, features: Sequence[str]) -> tf.data.Dataset:
    """Returns one pass over a split as networks look at it: `contract.S1` and `contract.S2` hold all their dates.

    Args:
        records: the dataset.
        split: such as ``train``.
        features: names of the features to decode.

    Returns:
        As `Records.dataset`; the bands of `contract.S1` and `S2` are `Imagery.s1_bands` and `s2_bands`.

    Raises:
        UserError: as `Records.dataset`.
    """
    dates = {name: some for name, some in records.imagery.dates.items() if name in features and len(some) > 1}
    if not dates:
        return records.dataset(split, features=features)
    decoded = records.dataset(split, features=list(dict.fromkeys([*features, *sum(dates.values(), ())])))

    def stack(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        joined = {name: tf.concat([example[date] for date in some], axis=-1) for name, some in dates.items()}
        return {name: example[name] for name in features} | joined

    return decoded.map(stack)


def common_imagery(datasets: Sequence[Records]) -> contract.Imagery:
    """Returns what the images of all datasets hold.

    Raises:
        UserError: if they differ, or there is no dataset.
    """
    if not datasets:
        raise UserError("datasets is empty: name at least one to train on")
    if len({dataset.imagery for dataset in datasets}) > 1:
        names = ", ".join(dict.fromkeys(dataset.name for dataset in datasets))
        raise UserError(f"{names}: their images hold different bands; train and validate on datasets of one kind")
    return datasets[0].imagery


def _find_version(data_dir: str, dataset: str) -> str:
    folder = f"{data_dir.rstrip('/')}/{dataset}"
    versions = [name.strip("/") for name in tf.io.gfile.listdir(folder)] if tf.io.gfile.isdir(folder) else []
    versions = [name for name in versions if all(part.isdigit() for part in name.split("."))]
    if not versions:
        raise UserError(
            f"{folder}: no converted dataset; make it by "
            f"python -m data_prep.convert --dataset={dataset} --input_dir=TILES --data_dir={data_dir}"
        )
    return f"{folder}/{max(versions, key=lambda name: [int(part) for part in name.split('.')])}"


@functools.lru_cache(maxsize=32)
def _builder(path: str):
    import tensorflow_datasets as tfds  # 3 s, and only readers need it

    with quiet.only_errors():
        return tfds.builder_from_directory(path)


def _sha256(path: str, progress: tqdm.tqdm) -> str:
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            progress.update(len(block))
    return digest.hexdigest()
