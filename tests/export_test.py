"""Predictors and exports of untrained small networks: no data, sizes, and the same numbers everywhere."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny_models

from flood_distill import contract, export_model, predictor
from flood_distill.errors import UserError
from flood_distill.probability import water_mask

# Runs without our package and without keras.
PLAIN_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
inputs = dict(np.load(sys.argv[2]))
result = model.signatures[sys.argv[3]](**{name: tf.constant(value) for name, value in inputs.items()})
assert "flood_distill" not in sys.modules
np.savez(sys.argv[4], **{name: value.numpy() for name, value in result.items()})
"""


def radar(shape, seed=0):
    s1 = np.random.default_rng(seed).uniform(-25, -2, (*shape, 2)).astype(np.float32)
    s1[:, :4] = np.nan
    s1[:, 10:20, 10:20, 1] = np.nan
    return s1


def optical(shape, seed=1):
    s2 = np.random.default_rng(seed).integers(1, 3000, (*shape, 4)).astype(np.int16)
    s2[:, -9:] = 0
    return s2


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    tiny_models.write_model_dir(folder / "model_dir")
    (folder / "model_dir/operative_config.gin").write_text("train.num_steps = 7\n")
    scores = {name: 0.5 for name in ("iou_pooled", "iou_per_chip", "precision", "recall")} | {"f1": None}
    metrics = {"model_name": "tiny", "dataset": contract.HAND, "split": "test", "source": "synthetic", "num_chips": 3}
    (folder / "metrics.json").write_text(json.dumps(metrics | scores))
    export_model.export(str(folder / "model_dir"), str(folder / "export"), metrics_files=[str(folder / "metrics.json")])
    return folder


@pytest.fixture(scope="module")
def exported(student):
    return predictor.load_predictor(str(student / "export"))


@pytest.fixture(scope="module")
def evaluated(student):
    return predictor.load_predictor(str(student / "model_dir"))


@pytest.fixture(scope="module")
def signatures(student):
    loaded = tf.saved_model.load(str(student / "export/1"))
    yield loaded.signatures
    del loaded  # the signatures hold the variables weakly


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    tiny_models.write_model_dir(folder, contract.INPUT_S1_S2)
    return folder


@pytest.fixture(scope="module")
def teacher(teacher_dir):
    return predictor.load_predictor(str(teacher_dir))


def test_another_process_with_plain_tensorflow_gives_the_evaluators_probabilities(student, evaluated, tmp_path):
    s1 = radar((2, 70, 83))
    expected = evaluated(s1)
    assert np.nanstd(expected) > 0.05  # the network says something
    np.savez(tmp_path / "in.npz", **{contract.BACKSCATTER_DB: s1})
    (tmp_path / "plain.py").write_text(PLAIN_TENSORFLOW)
    arguments = [student / "export/1", tmp_path / "in.npz", "serving_default", tmp_path / "out.npz"]
    subprocess.run([sys.executable, "plain.py", *map(str, arguments)], check=True, cwd=tmp_path)
    result = np.load(tmp_path / "out.npz")
    probability, mask = result[contract.WATER_PROBABILITY], result[contract.WATER_MASK]
    nodata = np.isnan(s1).any(axis=-1)
    np.testing.assert_array_equal(np.isnan(probability), nodata)
    np.testing.assert_allclose(probability, expected, atol=1e-4)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.where(nodata, 255, probability >= 0.5))


def test_signatures(signatures):
    assert sorted(signatures) == ["serving_default", "tf_example", "tile_321"]
    spec = signatures["serving_default"].structured_input_signature[1][contract.BACKSCATTER_DB]
    assert spec.shape.as_list() == [None, None, None, 2]
    assert spec.dtype == tf.float32
    s1 = tf.constant(radar((1, 321, 321)))
    free, tile = (signatures[name](backscatter_db=s1) for name in ("serving_default", "tile_321"))
    np.testing.assert_allclose(tile[contract.WATER_PROBABILITY], free[contract.WATER_PROBABILITY], atol=1e-5)


def test_the_input_contract_is_in_the_model_and_on_its_card(student):
    loaded = tf.saved_model.load(str(student / "export/1"))
    (inputs,) = json.loads(loaded.input_contract().numpy())
    assert inputs["name"] == contract.BACKSCATTER_DB
    assert [(band["name"], band["unit"], band["clipped_to"]) for band in inputs["bands"]] == [
        ("VV", "dB", [-20.0, 0.0]),
        ("VH", "dB", [-30.0, 0.0]),
    ]
    assert inputs["resolution_m"] == 16
    card = json.loads((student / "export/1/assets.extra/model_card.json").read_text())
    assert card["inputs"] == [inputs]
    assert [(found["split"], found["iou_pooled"]) for found in card["metrics"]] == [("test", 0.5)]
    assert card["training"]["source"] == "synthetic"
    assert "synthetic world" in card["limits"][0]
    assert {row["title"]: row["iou_percent"] for row in card["paper_rows"]}["Cross modal distillation"] == 71.91
    text = (student / "export/1/assets.extra/model_card.md").read_text()
    for part in ("VV -20..0 dB, VH -30..0 dB", "pixels of 16 m", "train.num_steps = 7", "| 0.5000 | n/a |", "TP / (TP"):
        assert part in text


def test_scores_of_another_model_are_refused(student, tmp_path):
    found = json.loads((student / "metrics.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(found | {"model_name": "other"}))
    (tmp_path / "list.json").write_text("{}")
    for name, message in (("other", "of the model other, not of tiny"), ("list", "not the metrics"), ("no", "not the")):
        with pytest.raises(UserError, match=rf"{name}.json: {message}"):
            export_model.export(
                str(student / "model_dir"), str(tmp_path / "x"), metrics_files=[str(tmp_path / f"{name}.json")]
            )
    assert not (tmp_path / "x").exists()


def test_servers_find_warm_up_requests_that_the_model_answers(student, signatures):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(student / "export/1/assets.extra/tf_serving_warmup_requests"))
    requests = [apis.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    named = [(request.model_spec.name, request.model_spec.signature_name) for request in requests]
    assert named == [("tiny", "serving_default")] * 2 + [("tiny", "tile_321")] * 2
    for request, batch in zip(requests, (1, 4, 1, 4), strict=True):
        (proto,) = request.inputs.values()
        s1 = tf.make_ndarray(proto)
        assert s1.shape == (batch, 321, 321, 2)
        assert (s1 == -12).all()
        assert proto.ByteSize() < 100
    answer = signatures["tile_321"](backscatter_db=tf.constant(s1[:1]))
    assert answer[contract.WATER_MASK].shape == (1, 321, 321)


def test_server_files_are_what_the_server_parses(student):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    models = text_format.Parse((student / "export/models.config").read_text(), config.ModelServerConfig())
    (model,) = models.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("export", "/models/export", "tensorflow")
    batching = dict(re.findall(r"(\w+) \{ value: (\d+) \}", (student / "export/batching_parameters.txt").read_text()))
    # The fields of tensorflow_serving/servables/tensorflow/session_bundle_config.proto, which pip does not carry.
    assert set(batching) == {"max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}


def test_saved_model_cli_runs_a_chip(student, evaluated, tmp_path):
    s1 = radar((1, 320, 320))
    np.save(tmp_path / "chip.npy", s1)
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", student / "export/1"]
    command += ["--tag_set=serve", "--signature_def=serving_default", f"--outdir={tmp_path}"]
    command += ["--inputs", f"{contract.BACKSCATTER_DB}={tmp_path / 'chip.npy'}"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "water_probability.npy"), evaluated(s1), atol=1e-4)


def test_a_temperature_moves_probabilities_and_not_the_mask(student, tmp_path):
    s1 = radar((1, 48, 49))
    described = json.loads((student / "model_dir/model.json").read_text())
    plain = predictor.load_predictor(str(student / "model_dir"))(s1)
    tempered_dir = tmp_path / "tempered"
    shutil.copytree(student / "model_dir", tempered_dir)
    (tempered_dir / "model.json").write_text(json.dumps(described | {"temperature": 2.0}))
    tempered = predictor.load_predictor(str(tempered_dir))(s1)
    logit = np.log(plain) - np.log1p(-plain)
    np.testing.assert_allclose(tempered, 1 / (1 + np.exp(-logit / 2)), atol=1e-5)
    np.testing.assert_array_equal(water_mask(tempered, 0.5), water_mask(plain, 0.5))


def test_serialized_records(signatures):
    s1 = radar((2, 320, 320))
    serialized = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    contract.S1: tf.train.Feature(bytes_list=tf.train.BytesList(value=[tile.tobytes()])),
                    contract.EVENT: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"Spain"])),
                }
            )
        ).SerializeToString()
        for tile in s1
    ]
    actual = signatures["tf_example"](serialized=tf.constant(serialized))
    expected = signatures["serving_default"](backscatter_db=tf.constant(s1))
    np.testing.assert_allclose(actual[contract.WATER_PROBABILITY], expected[contract.WATER_PROBABILITY], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (48, 49)])
def test_any_size_and_batch(exported, size):
    s1 = radar((3, 50, 50))[:, -size[0] :, -size[1] :]
    probability = exported(s1)
    assert probability.shape == (3, *size)
    assert probability.dtype == np.float32
    # Each image alone gives what it gives in the batch.
    np.testing.assert_allclose(exported(s1[1:2])[0], probability[1], atol=1e-5)


def test_padding_is_no_data_and_nothing_else(evaluated):
    """A 40 x 50 image, padded inside to 49 x 65, is the 49 x 65 image with no data there."""
    s1 = radar((1, 40, 50))
    padded = np.pad(s1, ((0, 0), (0, 9), (0, 15), (0, 0)), constant_values=np.nan)
    np.testing.assert_allclose(evaluated(s1)[0], evaluated(padded)[0, :40, :50], atol=1e-6)


def test_the_model_travels_with_its_description(student, exported):
    assert (exported.name, exported.dataset, exported.source) == ("tiny", contract.HAND, contract.SOURCE_SYNTHETIC)
    described = json.loads((student / "export/1/assets.extra/model.json").read_text())
    assert described == json.loads((student / "model_dir/model.json").read_text())


def test_versions_count_up_and_the_highest_is_loaded(student, monkeypatch):
    monkeypatch.setattr(export_model, "save", lambda network, info, folder: folder.mkdir())
    monkeypatch.setattr(export_model, "verify", lambda network, info, folder: 0.0)
    root = student / "versions"
    for name in ("2", "9", "10", "notes"):
        (root / name).mkdir(parents=True)
        (root / name / "saved_model.pb").touch()
    assert predictor.find_saved_model(root).name == "10"
    assert export_model.export(str(student / "model_dir"), str(root)) == str(root / "11")


def test_a_newer_version_beside_an_older_one_appears_whole(student, monkeypatch, tmp_path):
    """While the new one is made, whoever lists the folder finds the old one alone, as it was."""
    root = tmp_path / "x"
    shutil.copytree(student / "export", root)
    before = {path: path.read_bytes() for path in (root / "1").rglob("*") if path.is_file()}
    seen = []
    save = export_model.save

    def watched(network, info, folder):
        save(network, info, folder)
        seen.append(sorted(path.name for path in root.iterdir() if path.name.isdigit()))

    monkeypatch.setattr(export_model, "save", watched)
    export_model.export(str(student / "model_dir"), str(root))
    assert seen == [["1"]]
    assert {path: path.read_bytes() for path in before} == before
    names = [{str(path.relative_to(root / version)) for path in (root / version).rglob("*")} for version in "12"]
    assert names[0] == names[1]
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_an_export_that_differs_does_not_appear(student, monkeypatch, tmp_path):
    good = student / "export/1"

    def save_another(network, info, folder):
        for path in good.rglob("*"):
            if path.is_file():
                (folder / path.relative_to(good)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.relative_to(good)).write_bytes(path.read_bytes())

    monkeypatch.setattr(export_model, "save", save_another)
    monkeypatch.setattr(export_model, "water_probability", lambda network, info, s1, *_: s1[..., 0] * 0 + 2)
    with pytest.raises(UserError, match="differs by"):
        export_model.export(str(student / "model_dir"), str(tmp_path / "x"))
    assert list((tmp_path / "x").iterdir()) == []


def test_a_teacher_reads_sentinel_2_where_it_is_valid(teacher):
    s1, s2 = radar((1, 64, 64)), optical((1, 64, 64))
    probability = teacher(s1, s2)
    np.testing.assert_array_equal(np.isnan(probability), np.isnan(s1).any(axis=-1))  # also where S2 has none
    assert np.nanmax(np.abs(teacher(s1, optical((1, 64, 64), seed=2)) - probability)) > 1e-3
    np.testing.assert_array_equal(teacher(s1), teacher(s1, np.zeros_like(s2)))


def test_a_teachers_export_takes_reflectance(teacher_dir, teacher, tmp_path):
    folder = export_model.export(str(teacher_dir), str(tmp_path / "x"))
    model = predictor.load_predictor(folder)
    s1, s2 = radar((1, 50, 64)), optical((1, 50, 64))
    np.testing.assert_allclose(model(s1, s2), teacher(s1, s2), atol=1e-4)
    names = tf.saved_model.load(folder).signatures["serving_default"].structured_input_signature[1]
    assert sorted(names) == [contract.BACKSCATTER_DB, contract.REFLECTANCE]


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither the word otsu"):
        predictor.load_predictor(str(tmp_path / "nowhere"))
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(UserError, match="not one of ours"):
        predictor.load_predictor(str(tmp_path))


def test_another_normalisation_is_refused(tmp_path):
    tiny_models.write_model_dir(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    described["bands"][0]["low"] = -25.0
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="another normalisation"):
        predictor.load_predictor(str(tmp_path))


def test_water_mask_counts_the_threshold_itself_as_water():
    probability = np.array([0.49, 0.5, np.nan], np.float32)
    assert water_mask(probability, 0.5).tolist() == [0, 1, 255]
