"""Training batches, scores, exports and refusals on OMBRIA's bands: one radar band, three colours, one date or two."""

import json
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf
import tiny_models

from data_prep import conversion, testing
from flood_distill import (
    cli,
    contract,
    evaluation,
    export_model,
    input_pipeline,
    normalization,
    otsu,
    predictor,
    records,
)
from flood_distill import scenes as scenes_lib
from flood_distill.errors import UserError
from flood_distill.model_info import ModelInfo
from flood_distill.training import experiment

AFTER, BEFORE_AFTER = contract.OMBRIA_AFTER, contract.OMBRIA_BEFORE_AFTER
CHANNELS = {(AFTER, "s1"): 1, (AFTER, "s1+s2"): 4, (BEFORE_AFTER, "s1"): 2, (BEFORE_AFTER, "s1+s2"): 8}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two tuples of train, two of validation, one of test; the first lacks radar at the top, before the flood only."""
    folder = tmp_path_factory.mktemp("ombria")
    for number, name in ((1, "train"), (2, "train"), (10, "train"), (20, "train"), (3, "test")):
        before = {spec.feature: testing.ombria_array(spec) for spec in testing.ombria.BEFORE_LAYERS}
        if number == 1:
            before["s1_before"][:4] = 255
            before["s2_before"][-6:] = 0
        testing.write_ombria_tuple(folder / "tiles", name, number, arrays=before)
    for dataset in (AFTER, BEFORE_AFTER):
        conversion.convert(dataset, folder / "tiles", folder / "records")
    return folder / "records"


def load(data_dir, dataset):
    return records.load(data_dir, dataset)


@pytest.mark.parametrize(("dataset", "inputs"), CHANNELS)
def test_bands_of_a_network_follow_from_the_datasets_name(dataset, inputs):
    bands = contract.imagery(dataset).bands(inputs)
    assert len(bands) == CHANNELS[dataset, inputs]
    assert {(band.low, band.high) for band in bands} == {(0, 255)}
    assert len({band.name for band in bands}) == len(bands)
    info = ModelInfo("n", "supervised", inputs, {}, [dataset], dataset, "real", 0)
    assert info.input_bands == bands  # what model.json holds


@pytest.mark.parametrize(
    ("name", "task", "inputs"),
    [
        ("ombria_teacher", "supervised", "s1+s2"),
        ("ombria_supervised_hand", "supervised", "s1"),
        ("ombria_student_distill", "distillation", "s1"),
    ],
)
def test_gin_files_are_short_and_one_binding_gives_both_dates(name, task, inputs):
    for bindings, dataset in (([], AFTER), ([f"OMBRIA = '{BEFORE_AFTER}'"], BEFORE_AFTER)):
        cli.parse_gin([f"{name}.gin"], bindings)
        values = {key: gin.query_parameter(f"train.{key}") for key in ("name", "task", "inputs", "crop_size_px")}
        assert values == {"name": name, "task": task, "inputs": inputs, "crop_size_px": 257}
        assert gin.query_parameter("train.num_steps") == 30000  # of base.gin
        given = gin.get_bindings(experiment.train)
        assert (given["datasets"], given["validation_dataset"]) == ([dataset], dataset)
    gin.clear_config()
    lines = Path(cli.find_gin_file(f"{name}.gin")).read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) <= 15


def test_a_dataset_that_the_table_does_not_list_is_refused():
    with pytest.raises(ValueError, match="'nowhere/else' is not one of sen1floods11/hand"):
        contract.imagery("nowhere/else")


def test_dates_are_stacked_latest_first(data_dir):
    both, after = (
        next(iter(records.stacked(load(data_dir, name), "test", ["s1", "s2", "label"]).as_numpy_iterator()))
        for name in (BEFORE_AFTER, AFTER)
    )
    assert both.keys() == after.keys()
    assert (both["s1"].shape, both["s2"].shape) == ((256, 256, 2), (256, 256, 6))
    for name in ("s1", "s2"):
        np.testing.assert_array_equal(both[name][..., : after[name].shape[-1]], after[name])
    assert both["s2"][9, 9].tolist() == [40, 60, 80, 90, 70, 50]


def test_optical_is_valid_where_every_date_is():
    s2 = tf.constant([[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]], tf.int16)
    assert normalization.s2_valid(s2, contract.imagery(BEFORE_AFTER)).numpy().tolist() == [True, False, False, True]
    assert normalization.s2_valid(s2[:, :3], contract.imagery(AFTER)).numpy().tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match=r"3 bands, not \['backscatter'\]"):
        normalization.network_input("s1", tf.zeros([2, 3]), imagery=contract.imagery(AFTER))


def test_training_batches_hold_the_scaled_values(data_dir):
    dataset = BEFORE_AFTER
    settings = {"batch_size": 2, "crop_size_px": 257, "num_threads": 1}
    source = load(data_dir, dataset)
    supervised = next(input_pipeline.training_dataset([source], inputs="s1+s2", **settings).as_numpy_iterator())
    assert supervised["image"].shape == (2, 257, 257, CHANNELS[dataset, "s1+s2"])
    distilled = next(input_pipeline.training_dataset([source], task="distillation", **settings).as_numpy_iterator())
    assert distilled["image"].shape == (2, 257, 257, CHANNELS[dataset, "s1"])
    colours = distilled["teacher_image"][distilled["valid"]][:, 2:] * 255  # the teacher's are not jittered
    np.testing.assert_allclose(colours, np.broadcast_to([40, 60, 80, 90, 70, 50], colours.shape), atol=1e-3)
    assert not distilled["valid"].all()  # where an image before the flood lacks, and in the padding
    flooded = supervised["image"][supervised["label"] == 1][:, 0] * 255
    dry = supervised["image"][supervised["label"] == 0][:, 0] * 255
    assert flooded.mean() < 100 < dry.mean()  # 30 to 79 against 150 to 199, jittered


def test_pixels_without_the_image_before_are_not_trained_on_or_scored_with_both_dates(data_dir):
    for dataset, missing in ((AFTER, 0), (BEFORE_AFTER, 4 * 256)):
        batches = input_pipeline.evaluation_dataset(
            load(data_dir, dataset), "train", inputs="s1+s2", output_stride=16, batch_size=2
        )
        (batch,) = batches.as_numpy_iterator()
        assert batch["image"].shape == (2, 257, 257, CHANNELS[dataset, "s1+s2"])
        assert (batch["label"] >= 0).sum() == 2 * 256**2 - missing


def test_otsu_takes_the_band_after_the_flood():
    s1 = np.full((8, 8, 2), 180, np.float32)
    s1[:3, :, 0] = 40  # flooded
    s1[:, :3, 1] = 40  # water before
    s1[7, 7, 1] = np.nan
    mask = otsu.water_mask(s1, contract.imagery(BEFORE_AFTER))
    assert (mask[:3] == 1).all()
    assert (mask[3:7] == 0).all()
    assert mask[7, 7] == 255


def test_otsu_scores_flood(data_dir, tmp_path):
    metrics = evaluation.evaluate(
        predictor.load_predictor("otsu", BEFORE_AFTER), load(data_dir, BEFORE_AFTER), "test", tmp_path
    )
    assert (metrics["iou_pooled"], metrics["target"]) == (1.0, "flood")
    assert (tmp_path / "panels.png").exists()
    assert "flood where the probability" in (tmp_path / "metrics.md").read_text()
    assert not list(tmp_path.glob("*.tif"))  # the tuples have no place


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory):
    """An untrained teacher of both dates."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.write_model_dir(folder, "s1+s2", dataset=BEFORE_AFTER)
    return folder


@pytest.fixture(scope="module")
def teacher(teacher_dir):
    return predictor.load_predictor(str(teacher_dir))


def test_export_takes_the_datasets_images_and_scores_as_the_evaluator(data_dir, teacher_dir, teacher, tmp_path):
    export_model.export(str(teacher_dir), str(tmp_path))
    served = tf.saved_model.load(str(tmp_path / "1"))
    _, inputs = served.signatures["serving_default"].structured_input_signature
    assert {name: spec.shape[-1] for name, spec in inputs.items()} == {"backscatter_scaled": 2, "color_scaled": 6}
    example = next(iter(records.stacked(load(data_dir, BEFORE_AFTER), "train", ["s1", "s2"]).as_numpy_iterator()))
    own = teacher(example["s1"][None], example["s2"][None])
    serialized = tf.data.TFRecordDataset(sorted(map(str, (data_dir / BEFORE_AFTER).glob("*/*train*")))[0])
    record = served.signatures["tf_example"](serialized=next(iter(serialized))[None])
    np.testing.assert_allclose(record["water_probability"], own, atol=1e-4)


def test_evaluation_of_a_teacher_of_both_dates(data_dir, teacher, tmp_path):
    metrics = evaluation.evaluate(teacher, load(data_dir, BEFORE_AFTER), "train", tmp_path, num_panels=1)
    assert metrics["tp"] + metrics["fp"] + metrics["fn"] + metrics["tn"] == 2 * 256**2 - 4 * 256
    assert metrics["share_without_s2"] == pytest.approx(6 * 256 / (2 * 256**2 - 4 * 256))
    assert json.loads((tmp_path / "metrics.json").read_text())["dataset"] == BEFORE_AFTER


def test_networks_do_not_see_images_of_another_kind(data_dir, teacher, tmp_path):
    with pytest.raises(UserError, match="images of ombria/before_after, whose bands are not those of ombria/after"):
        evaluation.evaluate(teacher, load(data_dir, AFTER), "test", tmp_path)
    with pytest.raises(UserError, match="trained on images of ombria/before_after, not on VV and VH"):
        scenes_lib.predict_scenes(teacher, ["scene.tif"], tmp_path)
    with pytest.raises(UserError, match="ombria/after, ombria/before_after: their images hold different bands"):
        input_pipeline.training_dataset([load(data_dir, name) for name in (AFTER, BEFORE_AFTER)])


def test_a_student_of_sentinel_has_no_teacher_of_ombria(teacher_dir):
    student = ModelInfo("n", "distillation", "s1", {}, [contract.HAND], contract.HAND, "real", 0)
    with pytest.raises(UserError, match="trained on images of ombria/before_after") as caught:
        experiment._teacher(str(teacher_dir), student)
    assert "\n" not in str(caught.value)
