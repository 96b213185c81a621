import numpy as np
import pytest

from data_prep import conversion, testing
from data_prep.testing import chip_grid, utm_grid
from flood_distill import records
from flood_distill.errors import UserError
from flood_distill.geo import footprints

HERE = utm_grid(320000.0, 640000.0)
ELSEWHERE = utm_grid(480000.0, 640000.0)


def _test_chip_over(grid):
    """Grid of a Sen1Floods11 chip whose north-western corner lies in the middle of a tile."""
    west, south, east, north = footprints.footprint(grid)
    return chip_grid((west + east) / 2, (south + north) / 2)


def _write_sen1floods11(root):
    testing.write_splits(root, {"test": ["Ghana_1"]})
    testing.write_hand_chip(root, "Ghana_1", _test_chip_over(HERE))


@pytest.fixture
def tiles_dir(tmp_path):
    testing.write_external_tile(tmp_path / "world/external", "India_1", HERE)
    testing.write_external_tile(tmp_path / "world/external", "Peru-North_2", ELSEWHERE)
    return tmp_path / "world/external"


def test_tile_on_the_lattice_is_copied(tmp_path, tiles_dir):
    s1 = np.random.default_rng(0).normal(-12, 4, (320, 320, 2)).astype(np.float32)
    s1[:5] = np.nan
    testing.write_external_tile(tiles_dir, "India_1", HERE, arrays={"s1": s1})
    result = conversion.convert("external/events", tiles_dir, tmp_path / "records")
    assert result.num_examples == {"train": 2}
    assert result.metadata["outside_share"] == {"train": 0}
    found = {
        e["chip_id"]: e
        for e in records.load(tmp_path / "records", "external/events").dataset("train").as_numpy_iterator()
    }
    example = found[b"India_1"]
    np.testing.assert_array_equal(example["s1"], s1)
    assert (example["s2"] == [1000, 2000, 3000, 4000]).all()  # all four bands of the file
    assert (example["label"][:160] == 1).all()
    assert (example["label"][160:] == 0).all()
    assert tuple(example["transform"]) == HERE.transform
    assert example["crs"] == b"EPSG:32631"
    assert found[b"Peru-North_2"]["event"] == b"Peru-North"
    assert {name for name in example} == {
        *("s1", "s2", "label", "has_s2", "chip_id", "event", "source", "crs", "transform")
    }


def test_without_sen1floods11_the_user_is_told(tmp_path, tiles_dir):
    result = conversion.convert("external/events", tiles_dir, tmp_path / "records")
    assert "no Sen1Floods11 found" in result.notes[0]


@pytest.mark.parametrize("where", ["beside", "flag", "converted"])
def test_ground_that_is_evaluated_on_is_left_out(tmp_path, tiles_dir, where):
    options = {}
    if where == "beside":
        _write_sen1floods11(tmp_path / "world/sen1floods11/v1.1")
    elif where == "flag":
        _write_sen1floods11(tmp_path / "far/v1.1")
        options = {"sen1floods11_dir": str(tmp_path / "far")}
    else:
        _write_sen1floods11(tmp_path / "far/v1.1")
        conversion.convert("sen1floods11/hand", tmp_path / "far", tmp_path / "records")
    result = conversion.convert("external/events", tiles_dir, tmp_path / "records", **options)
    assert result.num_examples == {"train": 1}
    assert ["India_1"] in result.metadata["excluded"].values()
    assert result.notes == ()


def test_all_three_layers_are_needed(tmp_path, tiles_dir):
    (tiles_dir / "S2/India_1_S2.tif").unlink()
    with pytest.raises(UserError, match=r"S2/India_1_S2\.tif: missing"):
        conversion.convert("external/events", tiles_dir, tmp_path / "records")
    result = conversion.convert("external/events", tiles_dir, tmp_path / "records", allow_missing=True)
    assert result.num_examples == {"train": 1}
    with pytest.raises(UserError, match="no tiles"):
        conversion.convert("external/events", tmp_path, tmp_path / "records2")
