"""The input pipeline on datasets that data_prep converted from real files."""

import numpy as np
import pytest

from data_prep import conversion, testing
from flood_distill import contract, input_pipeline, records

NUM_EXTERNAL = 4
SETTINGS = {"batch_size": 4, "crop_size_px": 65, "num_threads": 1}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Hand chips: two train (one without Sentinel-2), one test. External: four tiles."""
    root = tmp_path_factory.mktemp("tiles")
    for number in range(3):
        without = (contract.S2,) if number == 2 else ()
        chip = testing.chip_grid(1.0 * number, 40.0)
        testing.write_hand_chip(root / "sen1floods11" / "v1.1", f"Spain_{number}", chip, without=without)
    testing.write_splits(root / "sen1floods11" / "v1.1", {"train": ["Spain_0", "Spain_2"], "test": ["Spain_1"]})
    for number in range(NUM_EXTERNAL):
        tile = testing.utm_grid(500000 + number * 16 * 320, 4.5e6)
        testing.write_external_tile(root / "external", f"Peru_{number}", tile)
    conversion.convert(contract.HAND, root / "sen1floods11", root / "records", allow_missing=True)
    conversion.convert(contract.EXTERNAL, root / "external", root / "records")
    return [records.load(root / "records", name) for name in (contract.HAND, contract.EXTERNAL)]


def test_supervised_batches_hold_the_tiles_values(datasets):
    dataset = input_pipeline.training_dataset(datasets[1:], inputs="s1+s2", crop_size_px=321, batch_size=4)
    batch = next(dataset.as_numpy_iterator())
    assert batch[contract.IMAGE].shape == (4, 321, 321, 6)
    assert batch[contract.LABEL].shape == (4, 321, 321)
    image = batch[contract.IMAGE][batch[contract.LABEL] != contract.IGNORE_LABEL]
    # -10 dB of [-20, 0]; -17 dB of [-30, 0]; reflectance 1000, 2000, 3000, 4000 of 3000, clipped; jitter around it:
    # at most 0.05 + 0.1 * |x - 0.5| for Sentinel-1, 0.05 + 0.2 * |x - 0.5| for Sentinel-2
    expected = np.array([0.5, 13 / 30, 1 / 3, 2 / 3, 1, 1])
    most = 0.05 + np.array([0.1, 0.1, 0.2, 0.2, 0.2, 0.2]) * abs(expected - 0.5)
    assert (abs(image - expected) <= most + 1e-6).all()
    shares = [(batch[contract.LABEL] == value).mean() for value in (contract.WATER, contract.DRY)]
    assert min(shares) > 0.2  # water is the upper half of each tile


@pytest.mark.parametrize("max_cache_bytes", [0, 2**30])
def test_distillation_from_two_datasets_and_resume(datasets, max_cache_bytes):
    settings = SETTINGS | {"task": "distillation", "mixing": "equal", "max_cache_bytes": max_cache_bytes}
    dataset = input_pipeline.training_dataset(datasets, **settings)
    batches = list(dataset.take(3).as_numpy_iterator())
    for batch in batches:
        assert batch[contract.IMAGE].shape == (4, 65, 65, 2)
        assert batch[contract.TEACHER_IMAGE].shape == (4, 65, 65, 6)
        assert batch[contract.VALID].dtype == bool
    resumed = next(input_pipeline.training_dataset(datasets, **settings, start_step=2).as_numpy_iterator())
    for name, expected in batches[2].items():
        np.testing.assert_array_equal(resumed[name], expected)


def test_evaluation_of_a_student_and_a_teacher(datasets):
    student, teacher = (
        list(
            input_pipeline.evaluation_dataset(
                datasets[0], contract.TEST_SPLIT, inputs=inputs, output_stride=16, batch_size=2
            ).as_numpy_iterator()
        )
        for inputs in (contract.INPUT_S1, contract.INPUT_S1_S2)
    )
    assert len(student) == len(teacher) == 1
    assert student[0][contract.CHIP_ID].tolist() == [b"Spain_1", b""]
    assert student[0][contract.IMAGE].shape == (2, 321, 321, 2)
    np.testing.assert_array_equal(student[0][contract.LABEL], teacher[0][contract.LABEL])
    np.testing.assert_array_equal(student[0][contract.IMAGE], teacher[0][contract.IMAGE][..., :2])
    scored = student[0][contract.LABEL][0] != contract.IGNORE_LABEL
    # A chip covers about 78 % of its grid: 512 px of 8.98e-5 degrees at 40 degrees north are 244 by 320 px of 16 m.
    assert 0.7 < scored.mean() < 0.85
    np.testing.assert_allclose(student[0][contract.IMAGE][0][scored], [[0.5, 13 / 30]] * scored.sum(), atol=1e-5)
