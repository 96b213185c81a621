import shutil

import pytest

from data_prep import conversion, testing
from data_prep.testing import chip_grid
from flood_distill import records
from flood_distill.errors import UserError

HAND = "sen1floods11/hand"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    root = folder / "tiles/v1.1"
    chip_ids = [f"Ghana_{number}" for number in range(6)]
    testing.write_splits(root, {"train": chip_ids[:5], "test": chip_ids[5:]})
    for number, chip_id in enumerate(chip_ids):
        without = ["permanent_water"] + ["s2"] * (number % 2)
        testing.write_hand_chip(root, chip_id, chip_grid(float(number), 10.0), without=without)
    conversion.convert(HAND, folder / "tiles", folder / "data")
    return folder / "data"


@pytest.fixture
def data_dir(converted, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(converted, tmp_path / "data")


def _ids(dataset):
    return [example["chip_id"].decode() for example in dataset.as_numpy_iterator()]


def test_splits_counts_and_source(converted):
    found = records.load(converted, HAND)
    assert found.splits == {"train": 5, "test": 1}
    assert found.num_examples("train") == 5
    assert found.num_with_s2("train") == 3  # chips 0, 2 and 4
    assert found.source == "real"
    assert found.path == f"{converted}/{HAND}/1.0.0"


def test_order_is_the_same_in_every_pass(converted):
    found = records.load(converted, HAND)
    plain = found.dataset("train")
    assert len(set(_ids(plain))) == 5
    assert _ids(plain) == _ids(plain) == _ids(records.load(converted, HAND).dataset("train"))
    shuffled = found.dataset("train", shuffle_seed=1)
    assert _ids(shuffled) == _ids(shuffled) == _ids(found.dataset("train", shuffle_seed=1))


def test_only_the_features_asked_for_are_decoded(converted):
    found = records.load(converted, HAND)
    assert set(found.dataset("test", features=["s1", "label"]).element_spec) == {"s1", "label"}
    with pytest.raises(UserError, match="has no feature s3"):
        found.dataset("test", features=["s1", "s3"])


def test_what_is_not_there_is_named_with_the_mend(converted):
    with pytest.raises(UserError, match="convert --dataset=sen1floods11/weak"):
        records.load(converted, "sen1floods11/weak")
    with pytest.raises(UserError, match="has no split 'bolivia', only train, test"):
        records.load(converted, HAND).num_examples("bolivia")
    with pytest.raises(UserError, match="has no split"):
        records.load(converted, HAND).num_with_s2("bolivia")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (testing.flip_byte, "has changed"),
        (testing.truncate, "has changed"),
        (lambda path: testing.truncate(path, 0), "has changed"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_damaged_shard_is_named(data_dir, damage, reason):
    found = records.load(data_dir, HAND)
    shard = next((data_dir / HAND).glob("*/*-train.tfrecord*"))
    damage(shard)
    with pytest.raises(UserError, match=rf"{shard.name}: shard {reason}"):
        found.dataset("train")
    assert _ids(found.dataset("test")) == ["Ghana_5"]  # the other split is whole


def test_hash_is_checked_once_a_process(data_dir, monkeypatch):
    found = records.load(data_dir, HAND)
    calls = []
    sha256 = records._sha256
    monkeypatch.setattr(records, "_sha256", lambda path, progress: calls.append(path) or sha256(path, progress))
    for _ in range(2):
        found.dataset("train")
        records.load(data_dir, HAND).dataset("test")
    assert len(calls) == 2


def test_dataset_without_hashes_or_metadata_is_refused(data_dir):
    version_dir = data_dir / HAND / "1.0.0"
    found = records.load(data_dir, HAND)
    (version_dir / "shards.json").write_text("{}")
    with pytest.raises(UserError, match=r"shards\.json: has no hash of sen1floods11-train"):
        found.dataset("train")
    (version_dir / "shards.json").unlink()
    with pytest.raises(UserError, match=r"shards\.json: missing"):
        found.dataset("train")
    other = data_dir / "sen1floods11/weak/1.0.0"
    other.mkdir(parents=True)
    with pytest.raises(UserError, match=r"weak/1\.0\.0: is no dataset"):
        records.load(data_dir, "sen1floods11/weak")
