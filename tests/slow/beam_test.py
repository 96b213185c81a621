import shutil
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from data_prep import conversion, convert, testing
from data_prep.testing import chip_grid
from flood_distill import beam_settings, records
from flood_distill.beam_settings import Beam
from flood_distill.errors import UserError

HAND = "sen1floods11/hand"
RUNNER = {"beam": Beam("DirectRunner")}
CHIPS = [f"Ghana_{number}" for number in range(5)]


@pytest.fixture
def beam():
    return pytest.importorskip("apache_beam")


@pytest.fixture
def tiles_dir(tmp_path):
    """Four chips of train, two of them without Sentinel-2, and one of test."""
    root = tmp_path / "tiles/v1.1"
    testing.write_splits(root, {"train": CHIPS[:4], "test": CHIPS[4:]})
    for number, chip_id in enumerate(CHIPS):
        s1 = np.random.default_rng(number).normal(-12, 4, (512, 512, 2)).astype(np.float32)
        testing.write_hand_chip(
            root, chip_id, chip_grid(float(number), 40.0), arrays={"s1": s1}, without=["s2"] * (number % 2)
        )
    return tmp_path / "tiles"


def _file(tiles_dir, chip_id, layer):
    return tiles_dir / "v1.1/data/flood_events/HandLabeled" / layer / f"{chip_id}_{layer}.tif"


def _examples(data_dir, split):
    return list(records.load(data_dir, HAND).dataset(split).as_numpy_iterator())


def test_direct_runner_equals_the_local_conversion(beam, tmp_path, tiles_dir):
    local = conversion.convert(HAND, tiles_dir, tmp_path / "local")
    spread = conversion.convert(HAND, tiles_dir, tmp_path / "beam", **RUNNER)
    assert spread.num_examples == local.num_examples == {"train": 4, "test": 1}
    assert spread.metadata == local.metadata
    for split in ("train", "test"):
        expected, found = (_examples(tmp_path / name, split) for name in ("local", "beam"))
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert list(ours) == list(theirs)
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    records.load(tmp_path / "beam", HAND).verify()
    contents = [{path.name: path.read_bytes() for path in result.path.iterdir()} for result in (local, spread)]
    assert contents[0] == contents[1]  # no report is left, and even the shards' bytes are the same


def test_faults_that_only_pixels_show(beam, tmp_path, tiles_dir):
    paths = [_file(tiles_dir, chip_id, "S1Hand") for chip_id in (CHIPS[1], CHIPS[4])]  # the latter is all of test
    for path in paths:
        testing.truncate(path)
    with pytest.raises(UserError, match="2 chips are incomplete or damaged") as caught:
        conversion.convert(HAND, tiles_dir, tmp_path / "records", **RUNNER)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(": ")[0].strip() for line in lines] == [str(path) for path in paths]
    assert not (tmp_path / "records").exists()
    local, spread = (
        conversion.convert(HAND, tiles_dir, tmp_path / name, allow_missing=True, **settings)
        for name, settings in (("local", {}), ("beam", RUNNER))
    )
    assert local.metadata == spread.metadata
    assert spread.num_examples == {"train": 3}


def test_workers_that_share_nothing_but_a_copy_and_a_staging_folder(beam, tmp_path, tiles_dir):
    local = conversion.convert(HAND, tiles_dir, tmp_path / "local")
    copy = shutil.copytree(tiles_dir, tmp_path / "bucket/tiles")
    for path in tiles_dir.rglob("*_S1Hand.tif"):
        if not path.name.startswith((CHIPS[0], CHIPS[4])):  # of each split the launcher reads one chip
            testing.truncate(path, 0.99)  # the header is whole, the pixels are not
    damaged = [_file(copy, chip_id, "LabelHand") for chip_id in (CHIPS[2], CHIPS[3])]
    for path in damaged:
        testing.truncate(path)
    settings = Beam("DirectRunner", (), str(copy), str(tmp_path / "bucket/staging"))
    with pytest.raises(UserError, match="2 chips are incomplete") as caught:
        conversion.convert(HAND, tiles_dir, tmp_path / "records", beam=settings)
    lines = str(caught.value).splitlines()[1:]  # they name the launcher's files, in the order of the lists
    ours = [_file(tiles_dir, chip_id, "LabelHand") for chip_id in (CHIPS[2], CHIPS[3])]
    assert [line.split(": ")[0].strip() for line in lines] == [str(path) for path in ours]
    assert not (tmp_path / "records").exists()
    for path, whole in zip(damaged, ours, strict=True):
        shutil.copy(whole, path)
    spread = conversion.convert(HAND, tiles_dir, tmp_path / "records", beam=settings)
    contents = [{path.name: path.read_bytes() for path in result.path.iterdir()} for result in (local, spread)]
    assert contents[0] == contents[1]
    assert not list((tmp_path / "bucket/staging").iterdir())
    assert [path.name for path in spread.path.parent.iterdir()] == ["1.0.0"]


def test_wrong_settings_are_one_line(beam):
    with pytest.raises(UserError, match=r"^--beam_runner=Sparkle: Unexpected pipeline runner: Sparkle\. Valid values"):
        beam_settings.pipeline_options("Sparkle")
    with pytest.raises(UserError, match=r"^--beam_options: argument --direct_num_workers: invalid int value: 'x'$"):
        beam_settings.pipeline_options("DirectRunner", ["direct_num_workers=x"])


def test_options_reach_the_pipeline(beam):
    from apache_beam.options import pipeline_options

    options = beam_settings.pipeline_options("DirectRunner", ["direct_num_workers=3", "--job_name=floods"])
    assert options.view_as(pipeline_options.DirectOptions).direct_num_workers == 3
    assert options.view_as(pipeline_options.GoogleCloudOptions).job_name == "floods"
    assert options.view_as(pipeline_options.StandardOptions).runner == "DirectRunner"


def test_flags_of_beam_need_a_runner():
    with flagsaver.flagsaver():
        flags.FLAGS.mark_as_parsed()
        assert convert._beam() is None
        flags.FLAGS.beam_staging_dir = "gs://bucket/staging"
        with pytest.raises(UserError, match=r"^--beam_staging_dir: needs --beam_runner, such as --beam_runner=Direct"):
            convert._beam()
        flags.FLAGS.beam_runner = "DataflowRunner"
        assert convert._beam() == Beam("DataflowRunner", (), None, "gs://bucket/staging")


def test_missing_extra_is_named(tmp_path, tiles_dir, monkeypatch):
    for name in ("apache_beam", "apache_beam.options.pipeline_options", "apache_beam.runners"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UserError, match=r"^--beam_runner=DirectRunner: needs Apache Beam: pip install 'flood_distill\["
    ):
        conversion.convert(HAND, tiles_dir, tmp_path / "records", **RUNNER)
    assert not (tmp_path / "records").exists()


def test_failure_of_a_pipeline_is_one_line_with_the_innermost_error():
    message = "Traceback (most recent call last):\n  File x\nValueError: no quota [while running 'Read']\n"
    with (
        pytest.raises(UserError, match=r"^--beam_runner=R: ValueError: no quota \[while running 'Read'\] \(--verb"),
        beam_settings.failures("R"),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError), beam_settings.failures(None):
        raise RuntimeError(message)
