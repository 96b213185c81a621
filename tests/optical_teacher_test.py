"""A network of Sentinel-2 alone: it is scored where all others are, and is neither exported nor mapped."""

import numpy as np
import pytest
import tiny_models

from flood_distill import contract, export_model, model_info, predictor, scenes
from flood_distill.errors import UserError
from flood_distill.models import layers
from flood_distill.training import network, pretrained, warm_start


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("optical") / "T"
    return folder, tiny_models.write_model_dir(folder, contract.INPUT_S2)


@pytest.fixture(scope="module")
def optical(model_dir):
    return predictor.load_predictor(str(model_dir[0]))


def test_it_looks_at_sentinel_2_and_knows_nothing_without_sentinel_1(optical):
    rng = np.random.default_rng(0)
    s1 = rng.uniform(-25, 0, (1, 40, 33, 2)).astype(np.float32)
    s1[:, :5] = np.nan
    s2 = rng.uniform(1, 3000, (1, 40, 33, 4)).astype(np.float32)
    probability = optical(s1, s2)
    np.testing.assert_array_equal(np.isnan(probability), np.isnan(s1).any(axis=-1))
    np.testing.assert_array_equal(optical(s1 - 1, s2), probability)
    assert np.nanmax(np.abs(optical(s1, s2[:, ::-1]) - probability)) > 1e-3


def test_it_is_not_exported(model_dir, tmp_path):
    with pytest.raises(UserError, match="looks at Sentinel-2 alone"):
        export_model.export(str(model_dir[0]), str(tmp_path / "export"))
    assert not (tmp_path / "export").exists()


def test_it_makes_no_maps_of_radar_scenes(optical, tmp_path):
    with pytest.raises(UserError, match="which needs Sentinel-2"):
        scenes.predict_scenes(optical, ["a.tif"], tmp_path)


def test_a_student_that_starts_as_it_shares_no_band(model_dir):
    folder, teacher = model_dir
    info = model_info.read(folder)
    info.inputs, info.bands = contract.INPUT_S1, []
    info.__post_init__()
    student = network.build(info.network | {"num_channels": 2})
    ours, theirs = layers.checkpoint_names(student), layers.checkpoint_names(teacher)
    before = ours[pretrained.FIRST_CONV].numpy()
    warm_start.load(student, info, str(folder))
    np.testing.assert_array_equal(ours.pop(pretrained.FIRST_CONV).numpy(), before)
    for name, variable in ours.items():
        np.testing.assert_array_equal(variable.numpy(), theirs[name].numpy())
