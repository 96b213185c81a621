"""Starting from another run's weights."""

import numpy as np
import pytest
import tiny_models

from flood_distill import contract, model_info
from flood_distill.errors import UserError
from flood_distill.models import layers
from flood_distill.training import network, pretrained, warm_start


def _new(teacher_dir, **changes):
    """Returns an untrained student like the teacher of `teacher_dir`, and its description."""
    info = model_info.read(teacher_dir)
    info.inputs, info.bands = contract.INPUT_S1, info.bands[:2]
    info.network = info.network | {"num_channels": 2} | changes
    return network.build(info.network), info


def test_student_starts_as_its_teacher_without_sentinel_2(tmp_path):
    teacher = tiny_models.write_model_dir(tmp_path / "teacher", contract.INPUT_S1_S2)
    student, info = _new(tmp_path / "teacher")
    warm_start.load(student, info, str(tmp_path / "teacher"))
    kernel = layers.checkpoint_names(teacher)[pretrained.FIRST_CONV]
    kernel.assign(np.array(kernel) * np.array([1, 1, 0, 0, 0, 0])[:, None])  # VV, VH, B2, B3, B4, B8
    image = np.random.default_rng(1).random((1, 65, 65, 6), np.float32)
    expected = np.array(teacher(image, training=False))
    assert expected.std() > 0.1
    np.testing.assert_allclose(np.array(student(image[..., :2], training=False)), expected, atol=1e-4)


def test_bands_are_matched_by_name_and_unknown_ones_keep_their_weights(tmp_path):
    teacher = tiny_models.write_model_dir(tmp_path / "teacher", contract.INPUT_S1_S2)
    student, info = _new(tmp_path / "teacher")
    vv, vh = info.bands
    info.bands = [vh, vv | {"name": "HH"}]
    before = np.array(layers.checkpoint_names(student)[pretrained.FIRST_CONV])
    warm_start.load(student, info, str(tmp_path / "teacher"))
    after = np.array(layers.checkpoint_names(student)[pretrained.FIRST_CONV])
    theirs = np.array(layers.checkpoint_names(teacher)[pretrained.FIRST_CONV])
    np.testing.assert_array_equal(after[:, :, 0], theirs[:, :, 1])  # VH is the teacher's second band
    np.testing.assert_array_equal(after[:, :, 1], before[:, :, 1])


def test_another_width_is_refused_and_nothing_is_assigned(tmp_path):
    tiny_models.write_model_dir(tmp_path / "teacher", contract.INPUT_S1_S2)
    student, info = _new(tmp_path / "teacher", width_multiplier=0.1)
    before = [np.array(weight) for weight in student.weights]
    with pytest.raises(UserError, match=r"initial_weights.*network\."):
        warm_start.load(student, info, str(tmp_path / "teacher"))
    assert all(np.array_equal(old, new) for old, new in zip(before, student.weights, strict=True))


@pytest.mark.parametrize(
    ("initial_weights", "teacher", "expected"),
    [("scratch", "T", ""), ("teacher", "T", "T"), ("teacher", "", ""), ("other", "T", "other")],
)
def test_source(initial_weights, teacher, expected):
    assert warm_start.source(initial_weights, teacher) == expected
