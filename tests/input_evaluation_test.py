"""Evaluation batches: every chip once, padded with what is never scored."""

import numpy as np
import pytest
from fake_records import FakeRecords, make_example, make_spoiled

from flood_distill import contract, input_pipeline, normalization


def evaluation(records, **settings):
    settings = {"inputs": "s1", "output_stride": 16, "batch_size": 4} | settings
    return list(input_pipeline.evaluation_dataset(records, "test", **settings).as_numpy_iterator())


def test_evaluation_sees_every_chip_once_in_order_and_fills_the_last_batch():
    got = evaluation(FakeRecords([make_example(number) for number in range(6)]))
    chip_ids = [chip_id.decode() for batch in got for chip_id in batch[contract.CHIP_ID]]
    assert chip_ids == [f"chip_{number}" for number in range(6)] + ["", ""]
    assert [batch[contract.IMAGE].shape for batch in got] == [(4, 17, 17, 2)] * 2
    assert (got[1][contract.LABEL][2:] == contract.IGNORE_LABEL).all()
    assert (got[1][contract.IMAGE][2:] == contract.FILL_VALUE).all()
    assert got[1][contract.EVENT].tolist() == [b"Elsewhere", b"Elsewhere", b"", b""]


@pytest.mark.parametrize(("num_examples", "sizes"), [(6, [4, 2]), (8, [4, 4])])
def test_without_filling_the_last_batch_is_what_is_left(num_examples, sizes):
    got = evaluation(FakeRecords([make_example(n) for n in range(num_examples)]), pad_to_full_batch=False)
    assert [len(batch[contract.IMAGE]) for batch in got] == sizes


def test_full_batches_need_no_filler():
    got = evaluation(FakeRecords([make_example(number) for number in range(8)]))
    assert len(got) == 2
    assert b"" not in got[1][contract.CHIP_ID]


@pytest.mark.parametrize(
    ("size_px", "output_stride", "padded_px"), [(16, 16, 17), (16, 8, 17), (20, 16, 33), (33, 32, 33)]
)
def test_evaluation_pads_to_the_next_size_that_fits(size_px, output_stride, padded_px):
    example = make_example(0, size_px=size_px)
    (batch,) = evaluation(FakeRecords([example]), output_stride=output_stride, batch_size=1)
    image, label = batch[contract.IMAGE][0], batch[contract.LABEL][0]
    assert image.shape == (padded_px, padded_px, 2)
    np.testing.assert_array_equal(image[:size_px, :size_px], normalization.network_input("s1", example[contract.S1]))
    np.testing.assert_array_equal(label[:size_px, :size_px], example[contract.LABEL])
    assert (label[size_px:] == contract.IGNORE_LABEL).all()
    assert (label[:, size_px:] == contract.IGNORE_LABEL).all()


def test_student_and_teacher_score_the_same_pixels_even_without_s2():
    records = FakeRecords([make_spoiled(), make_example(1, has_s2=False)])
    (student,) = evaluation(records, inputs="s1", batch_size=2)
    (teacher,) = evaluation(records, inputs="s1+s2", batch_size=2)
    np.testing.assert_array_equal(student[contract.LABEL], teacher[contract.LABEL])
    # S1 is finite in rows 4 and on, labels end at row 12; the second chip is whole.
    assert [(label >= 0).sum() for label in student[contract.LABEL]] == [8 * 16, 16 * 16]
    assert (teacher[contract.IMAGE][1, ..., 2:] == contract.FILL_VALUE).all()


def test_more_features_are_passed_on_padded_with_no_data():
    example = make_example(0)
    features = (contract.S1, contract.S2, contract.HAS_S2)
    got = evaluation(FakeRecords([example]), batch_size=2, features=features)[0]
    assert set(got) == {contract.IMAGE, contract.LABEL, *features}
    np.testing.assert_array_equal(got[contract.S1][0, :16, :16], example[contract.S1])
    np.testing.assert_array_equal(got[contract.S2][0, :16, :16], example[contract.S2])
    assert np.isnan(got[contract.S1][0, 16:]).all()
    assert np.isnan(got[contract.S1][1]).all()
    assert not got[contract.S2][:, 16:].any()
    assert got[contract.S2].dtype == np.int16
    assert got[contract.HAS_S2].tolist() == [True, False]


def test_teacher_sees_the_same_pixels_and_invalid_ones_are_not_compared():
    example = make_spoiled()
    (batch,) = evaluation(FakeRecords([example]), batch_size=1, teacher_inputs="s1+s2")
    valid = np.zeros((17, 17), bool)
    valid[4:16, 4:16] = True  # Sentinel-1 from row 4 on, Sentinel-2 from column 4 on; the rest is padding
    np.testing.assert_array_equal(batch[contract.VALID][0], valid)
    np.testing.assert_array_equal(batch[contract.TEACHER_IMAGE][..., :2], batch[contract.IMAGE])
    assert batch[contract.TEACHER_IMAGE].shape == (1, 17, 17, 6)
