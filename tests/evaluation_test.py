"""Evaluation of a predictor that is wrong in a known way on records made here."""

import csv
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from flood_distill import chips, contract, evaluation, panels, per_chip, statistics
from flood_distill.errors import UserError
from flood_distill.predictor import OtsuPredictor

SIZE = 40


def example(chip_id, water_columns, seen=True, labelled=True, has_s2=True):
    """A chip whose first columns are water, dark in VH."""
    label = np.zeros((SIZE, SIZE), np.int8)
    label[:, :water_columns] = 1
    s1 = np.where(label[..., np.newaxis] == 1, [-18.0, -26.0], [-8.0, -14.0]).astype(np.float32)
    s2 = np.full((SIZE, SIZE, 4), 900, np.int16)
    s2[:4] = 0
    return {
        contract.CHIP_ID: chip_id.encode(),
        contract.EVENT: chip_id.split("_")[0].encode(),
        contract.S1: s1 if seen else np.full_like(s1, np.nan),
        contract.S2: s2 if has_s2 else np.zeros_like(s2),
        contract.HAS_S2: has_s2,
        contract.LABEL: label if labelled else np.full_like(label, -1),
    }


class FakeRecords:
    """The part of `records.Records` that evaluation reads."""

    name, source, path = contract.HAND, contract.SOURCE_SYNTHETIC, "nowhere"
    imagery = contract.SENTINEL

    def __init__(self, *examples):
        self._examples = examples

    @property
    def features(self):
        return list(self._examples[0])

    def num_examples(self, split):
        return len(self._examples)

    def dataset(self, split, features=None, shuffle_seed=None):
        return tf.data.Dataset.from_tensor_slices(
            {name: np.stack([example[name] for example in self._examples]) for name in features}
        )


class TwoColumnsTooMany:
    """Water where VH is dark, and in two columns more; keeps the sizes of its batches."""

    model, name, inputs, threshold, dataset, source = "m", "wide", "s1", 0.5, "", "synthetic"
    imagery = contract.SENTINEL

    def __init__(self):
        self.batches = []

    def __call__(self, s1, s2=None):
        self.batches.append(len(s1))
        assert s2.shape == (*s1.shape[:-1], 4)
        dark = s1[..., 1] < -20
        wide = dark | np.roll(dark, 2, axis=-1) & (np.arange(SIZE) > 1)
        return np.where(np.isfinite(s1).all(axis=-1), wide, np.nan).astype(np.float32)


RECORDS = FakeRecords(
    example("Spain_1", 8),  # 8 columns of water, 10 predicted
    example("Spain_2", 0),  # none at all
    example("Sri-Lanka_3", 18, has_s2=False),  # 18, 20 predicted
    example("Ghana_4", 8, labelled=False),
    example("Paraguay_5", 8, seen=False),
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "new"
    predictor = TwoColumnsTooMany()
    metrics = evaluation.evaluate(predictor, RECORDS, "test", folder, batch_size=2, num_panels=2)
    assert predictor.batches == [2, 2, 1]
    return metrics, folder


def test_scores(evaluated):
    metrics, _ = evaluated
    assert (metrics["num_chips"], metrics["num_unscorable"]) == (3, 2)
    assert metrics["unscorable_chips"] == ["Ghana_4", "Paraguay_5"]
    assert (metrics["tp"], metrics["fp"], metrics["fn"]) == (40 * (8 + 18), 40 * (2 + 2), 0)
    assert metrics["tn"] == 40 * (30 + 40 + 20)
    assert metrics["iou_pooled"] == 26 / 30
    assert metrics["iou_per_chip"] == pytest.approx((8 / 10 + 1 + 18 / 20) / 3)
    assert metrics["share_without_s2"] == pytest.approx((4 + 4 + 40) / 120)
    assert metrics["per_event"]["Spain"]["iou_pooled"] == 8 / 10
    assert metrics["per_event"]["Ghana"]["num_unscorable"] == 1


def test_metrics_json_has_the_keys_of_the_contract_and_is_strict(evaluated):
    metrics, folder = evaluated
    written = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    keys = "split dataset source num_chips num_unscorable iou_pooled iou_per_chip precision recall f1 tp fp fn tn"
    assert set(keys.split()) | {"per_event", "definitions"} <= set(written)
    assert (written["split"], written["dataset"], written["source"]) == ("test", contract.HAND, "synthetic")
    assert written["iou_pooled"] == metrics["iou_pooled"]
    assert math.isnan(metrics["per_event"]["Ghana"]["iou_pooled"])
    assert written["per_event"]["Ghana"]["iou_pooled"] is None


def test_per_chip_csv(evaluated):
    _, folder = evaluated
    with (folder / "per_chip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:8] == ["chip_id", "event", "scored_pixels", "tp", "fp", "fn", "tn", "iou"]
    assert [row["chip_id"] for row in rows] == ["Spain_1", "Spain_2", "Sri-Lanka_3"]
    assert dict(list(rows[0].items())[:8]) == {
        "chip_id": "Spain_1",
        "event": "Spain",
        "scored_pixels": "1600",
        "tp": "320",
        "fp": "80",
        "fn": "0",
        "tn": "1200",
        "iou": "0.8",
    }
    # Bands of 2 pixels along the shore: columns 6 and 7 are true, 8 and 9 predicted.
    shore = {name: int(rows[0][f"boundary_{name}"]) for name in ("tp", "fp", "fn", "tn")}
    assert shore == {"tp": 0, "fp": 40 * 2, "fn": 40 * 2, "tn": 40 * 36}
    read = per_chip.read(folder / "per_chip.csv")
    assert read[0].counts == statistics.Counts(320, 80, 0, 1200)
    assert (read[0].boundary.fn, read[0].flood, read[2].num_without_s2) == (80, statistics.Counts(), 1600)


def test_intervals_boundary_and_calibration_stand_beside_the_scores(evaluated):
    metrics, folder = evaluated
    low, high = metrics["intervals"]["iou_pooled"]
    assert 8 / 10 <= low < metrics["iou_pooled"] < high <= 18 / 20  # no choice of chips leaves their range
    assert metrics["boundary_iou"] == 0  # the shore is 2 columns off everywhere
    assert metrics["flood"] is None
    assert metrics["per_event"]["Spain"]["iou_pooled_interval"] == pytest.approx([0.8, 0.8])
    # Said to be certain: wet in 40 * (10 + 20) pixels, of which 40 * (8 + 18) are; dry in the others, all of which are.
    assert metrics["ece"] == pytest.approx(40 * 4 / 4800)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["intervals"]["flood_iou_pooled"] == [None, None]
    assert written["reliability"]["num_water"][-1] == 40 * 26


def test_permanent_water_is_no_part_of_the_flood(tmp_path):
    chips = [example("Spain_1", 8), example("Spain_2", 8)]
    for chip, known in zip(chips, (True, False), strict=True):
        chip[contract.PERMANENT_WATER] = np.where(np.arange(SIZE) < 5, 1, 0)[np.newaxis].repeat(SIZE, 0).astype(np.int8)
        chip[contract.PERMANENT_WATER][:, -3:] = -1
        chip[contract.HAS_PERMANENT_WATER] = known
    metrics = evaluation.evaluate(TwoColumnsTooMany(), FakeRecords(*chips), "test", tmp_path, num_panels=1)
    flood = metrics["flood"]
    assert (flood["num_chips"], flood["num_unscorable"]) == (1, 1)
    assert (flood["tp"], flood["fp"], flood["tn"]) == (40 * 3, 40 * 2, 40 * 27)
    assert flood["iou_pooled"] == 3 / 5


def test_masks_are_kept(evaluated):
    _, folder = evaluated
    masks = np.load(folder / "predictions.npz")
    assert sorted(masks) == ["Ghana_4", "Paraguay_5", "Spain_1", "Spain_2", "Sri-Lanka_3"]
    assert masks["Spain_1"].dtype == np.uint8
    assert masks["Spain_1"].sum() == 40 * 10
    assert (masks["Paraguay_5"] == contract.MASK_NODATA).all()


def test_markdown_states_definitions_and_that_data_are_synthetic(evaluated):
    _, folder = evaluated
    text = (folder / "metrics.md").read_text()
    assert "Synthetic data" in text
    assert "TP / (TP + FP + FN)" in text
    assert "| all | 3 | 0.8667 | 0.9000 |" in text
    assert "Boundary IoU, bands of 2 pixels: 0.0000" in text
    assert "Ghana_4, Paraguay_5" in text


def test_only_whole_files_are_left(evaluated):
    _, folder = evaluated
    names = ["metrics.json", "metrics.md", "panels.png", "per_chip.csv", "predictions.npz", "reliability.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert Image.open(folder / "panels.png").size[0] > 300


def test_otsu_scores_these_chips_fully(tmp_path):
    metrics = evaluation.evaluate(OtsuPredictor(), FakeRecords(example("Spain_1", 8)), "test", tmp_path)
    assert (metrics["model"], metrics["iou_pooled"], metrics["fp"]) == ("otsu", 1.0, 0)


def test_split_without_scorable_chips_has_no_scores_and_no_panels(tmp_path):
    metrics = evaluation.evaluate(OtsuPredictor(), FakeRecords(example("Ghana_4", 8, seen=False)), "test", tmp_path)
    assert metrics["num_chips"] == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["iou_pooled"] is None
    assert not (tmp_path / "panels.png").exists()


def test_a_predictor_with_gaps_is_refused(tmp_path):
    class Gaps(TwoColumnsTooMany):
        def __call__(self, s1, s2=None):
            probability = super().__call__(s1, s2)
            probability[:, 0, :3] = np.nan
            return probability

    with pytest.raises(UserError, match="Spain_1: .* 3 pixels"):
        evaluation.evaluate(Gaps(), FakeRecords(example("Spain_1", 8)), "test", tmp_path)
    assert not list(tmp_path.iterdir())


def test_panels_take_events_in_turn_whatever_was_predicted():
    results, *_ = evaluation.score_chips(
        OtsuPredictor(),
        FakeRecords(*(example(name, width) for name, width in (("a_1", 2), ("a_2", 20), ("b_1", 1)))),
        "t",
        4,
    )
    assert chips.telling_chips(results, 2) == ["a_2", "b_1"]
    assert chips.telling_chips(results, 9) == ["a_2", "b_1", "a_1"]


def test_ground_truth_is_drawn_in_the_colours_of_figure_2():
    s2 = np.full((1, 4, 4), 500, np.int16)
    s2[0, 3] = 6000
    label = np.array([[0, 1, -1, -1]], np.int8)
    image = panels.label_image(panels.Chip("c", np.zeros((1, 4, 2), np.float32), s2, label))
    expected = [panels.DRY_COLOR, panels.WATER_COLOR, panels.INVALID_COLOR, panels.CLOUD_COLOR]
    np.testing.assert_array_equal(image, [expected])


def test_comparison_panel_draws_a_row_a_chip_and_a_column_a_model(tmp_path):
    shown = chips.read_chips(RECORDS, "test", ["Sri-Lanka_3", "Spain_1"])
    assert [chip.chip_id for chip in shown] == ["Sri-Lanka_3", "Spain_1"]
    assert shown[0].s2 is None
    masks = {chip.chip_id: np.zeros((SIZE, SIZE), np.uint8) for chip in shown}
    panels.comparison_panel(shown, {"one": masks}, tmp_path / "one.png")
    panels.comparison_panel(shown, {"one": masks, "two": masks}, tmp_path / "two.png")
    assert Image.open(tmp_path / "two.png").size[0] > Image.open(tmp_path / "one.png").size[0]
