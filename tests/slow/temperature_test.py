"""The temperature that is fitted is the one that the labels were drawn with."""

import fake_records
import numpy as np
import pytest
import tiny_models
from scipy.special import expit

from flood_distill import model_info, temperature
from flood_distill.errors import UserError


def drawn(true_temperature, made_with=1.0, size=200_000):
    """Labels drawn from logits / true_temperature; probabilities made with another temperature."""
    generator = np.random.default_rng(0)
    logits = generator.normal(-1, 3, size)
    labels = (generator.random(size) < 1 / (1 + np.exp(-logits / true_temperature))).astype(int)
    return (1 / (1 + np.exp(-logits / made_with))).astype(np.float32), labels


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("made_with", [1.0, 2.0])
def test_fit_finds_the_temperature_of_the_labels(true_temperature, made_with):
    histogram = temperature.LogitHistogram()
    probability, labels = drawn(true_temperature, made_with)
    for part in np.array_split(np.arange(len(labels)), 3):
        histogram.add(probability[part], labels[part], made_with)
    found = temperature.fit(histogram)
    assert found == pytest.approx(true_temperature, rel=0.03)  # 200,000 labels
    assert histogram.cross_entropy(found) <= min(map(histogram.cross_entropy, (found * 1.1, found / 1.1)))


def test_cross_entropy_is_that_of_the_pixels():
    histogram = temperature.LogitHistogram()
    probability, labels = drawn(1.0, size=1000)
    histogram.add(probability, labels)
    expected = -np.mean(np.log(np.where(labels == 1, probability, 1 - probability.astype(np.float64))))
    assert histogram.cross_entropy(1.0) == pytest.approx(expected, abs=0.005)  # half a bin of 0.01


def test_certainty_and_one_class_alone():
    histogram = temperature.LogitHistogram()
    histogram.add(np.array([0.0, 1.0], np.float32), np.array([0, 0]))
    assert np.isfinite(histogram.cross_entropy(1.0))
    with pytest.raises(UserError, match="both water and dry"):
        temperature.fit(histogram)


def test_calibration_is_written_and_a_second_one_changes_nothing(tmp_path):
    tiny_models.write_model_dir(tmp_path)
    dataset = fake_records.FakeRecords([fake_records.make_example(number, 33) for number in range(2)])
    first = temperature.calibrate(str(tmp_path), dataset)
    assert first["after"] < first["before"]
    assert model_info.read(tmp_path).temperature == first["temperature"] != 1
    assert model_info.read(tmp_path).threshold == pytest.approx(0.5)
    second = temperature.calibrate(str(tmp_path), dataset)
    assert second["temperature"] == pytest.approx(first["temperature"], rel=0.02)
    assert second["before"] == pytest.approx(first["before"], rel=0.01)


def test_masks_do_not_change_with_the_temperature():
    logits = np.linspace(-5, 5, 1001)
    before, after = expit(logits / 1.0), expit(logits / 2.5)
    np.testing.assert_array_equal(before >= 0.3, after >= temperature.same_mask(0.3, ratio=2.5))
    assert temperature.same_mask(0.5, ratio=2.5) == 0.5
    assert temperature.same_mask(expit(-1.0), ratio=2.0) == pytest.approx(expit(-0.5))
