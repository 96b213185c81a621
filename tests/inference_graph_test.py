"""What an export computes with: folded batch norms, constants, bfloat16, other engines; the numbers stay the same."""

import builtins
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models

from flood_distill import contract, export_model, inference_graph, onnx_format, openvino_engine, predictor, sizes
from flood_distill.errors import UserError
from flood_distill.models import deeplab, folding, layers
from flood_distill.probability import water_mask
from flood_distill.training import model_files

TRAINING_ONLY = (keras.layers.BatchNormalization, keras.layers.Dropout)


def lively_network(**arguments) -> keras.Model:
    """Returns a tiny network whose batch norms are far from the identity."""
    defaults = {"width_multiplier": 0.05, "num_middle_units": 1, "dropout_rate": 0.5}
    network = deeplab.deeplab_v3_plus(2, **{**defaults, **arguments}, seed=1)
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable, low, high in (
                (layer.gamma, -2.0, 2.0),
                (layer.beta, -1.0, 1.0),
                (layer.moving_mean, -0.2, 0.2),
                (layer.moving_variance, 0.01, 0.1),
            ):
                variable.assign(generator.uniform(low, high, variable.shape))
    return network


def image(height: int = 65, width: int = 65) -> np.ndarray:
    return np.random.default_rng(1).random((2, height, width, 2), np.float32)


def radar(batch: int, height: int, width: int) -> np.ndarray:
    s1 = np.random.default_rng(batch).uniform(-25, -2, (batch, height, width, 2)).astype(np.float32)
    s1[:, :4] = np.nan
    s1[:, 10:14, 10:20, 1] = np.nan
    return s1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    tiny_models.write_model_dir(folder / "model_dir")
    network, info = model_files.load_best(str(folder / "model_dir"))
    export_model.save(network, info, folder / "float32")
    export_model.save(network, dataclasses.replace(info, precision=contract.BFLOAT16), folder / "bfloat16")
    return folder


@pytest.fixture(scope="module")
def evaluated(folder):
    return predictor.load_predictor(str(folder / "model_dir"))


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        (None, {}),  # sizes known at run time only
        (65, {}),  # 5 x 5 features: rates 6, 12, 18 reach nothing, and the kernel's centre does the work
        ((33, 129), {"output_stride": 8, "atrous_rates": (2, 5, 9)}),  # rates that reach along one axis only
        (None, {"decoder_strides": (), "image_pooling_size": 3}),
        (None, {"input_range": (-1.0, 1.0)}),
    ],
)
def test_folding_changes_no_logit(size, arguments):
    network = lively_network(input_size=size, **arguments)
    before = network.get_weights()
    folded = folding.fold_batch_norms(network)
    images = image(*size) if isinstance(size, tuple) else image()
    expected = network(images, training=False).numpy()
    np.testing.assert_allclose(folded(images).numpy(), expected, atol=1e-5 * np.abs(expected).max())
    assert expected.std() > 1e-3  # the network says something
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_of_training_is_left():
    network = lively_network()
    folded = folding.fold_batch_norms(network)
    gone = {layer.name for layer in network.layers if isinstance(layer, TRAINING_ONLY)}
    assert {layer.name for layer in network.layers} - {layer.name for layer in folded.layers} == gone
    assert folded.trainable_variables == []
    # gamma, beta, mean and variance of a batch norm become the one bias of its convolution.
    num_norms = sum(layer.name.endswith("BatchNorm") for layer in network.layers)
    assert len(folded.weights) == len(network.weights) - 3 * num_norms


def test_bfloat16_up_to_the_logits():
    network = lively_network(input_range=(-1.0, 1.0))
    folded = folding.fold_batch_norms(network, contract.BFLOAT16)
    float32 = {layer.name for layer in folded.layers if layer.compute_dtype == contract.FLOAT32}
    kept = {contract.IMAGE, "input_range", "logits-semantic", "logits-resize"}
    assert float32 - kept == set()
    assert kept - float32 == set()
    expected, actual = network(image(), training=False).numpy(), folded(image())
    assert actual.dtype == tf.float32
    assert 0 < np.abs(actual - expected).mean() < 0.05 * np.abs(expected).mean()


def test_what_cannot_be_folded_is_refused():
    inputs = keras.Input((None, None, 2))
    hidden = keras.layers.Conv2D(3, 1, use_bias=False, name="a")(inputs)
    outputs = keras.layers.BatchNormalization(name="a-BatchNorm")(keras.layers.ReLU()(hidden))
    with pytest.raises(ValueError, match="a-BatchNorm does not follow"):
        folding.fold_batch_norms(keras.Model(inputs, outputs))
    with pytest.raises(ValueError, match="float16 is not one of"):
        folding.fold_batch_norms(lively_network(), "float16")


def test_a_saved_model_holds_every_weight_once_and_as_a_constant(folder):
    network, _ = model_files.load_best(str(folder / "model_dir"))
    folded = folding.fold_batch_norms(network)
    stored = (folder / "float32/saved_model.pb").read_bytes()
    kernels = [layer.kernel.numpy().tobytes() for layer in folded.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {stored.count(kernel) for kernel in kernels} == {1}  # of three signatures
    assert tf.train.list_variables(str(folder / "float32/variables/variables")) == [
        ("_CHECKPOINTABLE_OBJECT_GRAPH", [])
    ]
    assert b"Rsqrt" not in stored
    assert len((folder / "bfloat16/saved_model.pb").read_bytes()) < len(stored) - 0.4 * sum(map(len, kernels))


def test_bfloat16_export_is_close(folder, evaluated):
    s1 = radar(2, 60, 70)
    expected = evaluated(s1)
    actual = predictor.load_predictor(str(folder / "bfloat16"))(s1)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    assert 0 < np.nanmean(np.abs(actual - expected)) < 0.05


def test_export_says_its_precision(folder, monkeypatch, tmp_path):
    described = []
    monkeypatch.setattr(export_model, "save", lambda network, info, path: described.append(info) or path.mkdir())
    monkeypatch.setattr(export_model, "verify", lambda network, info, path: 0.0)
    export_model.export(str(folder / "model_dir"), str(tmp_path), precision=contract.BFLOAT16)
    assert [info.precision for info in described] == ["bfloat16"]


def test_a_bfloat16_export_that_differs_much_is_refused(folder, monkeypatch):
    monkeypatch.setattr(export_model, "_VERIFIED_SIZES_PX", ((33, 40),))
    network, info = model_files.load_best(str(folder / "model_dir"))
    logits = network.get_layer(layers.layer_name("logits/semantic"))
    logits.bias.assign([5.0, -5.0])
    with pytest.raises(UserError, match="differs by"):
        export_model.verify(network, dataclasses.replace(info, precision=contract.BFLOAT16), folder / "bfloat16")


def test_openvino_gives_the_evaluators_probabilities(folder, evaluated):
    pytest.importorskip("openvino")
    served = predictor.load_predictor(str(folder / "float32"), engine=contract.OPENVINO)
    # Another size; a batch that is filled up to 3; a larger one than any before.
    for shape in ((2, 50, 61), (3, 33, 40), (1, 33, 40), (4, 33, 40)):
        s1 = radar(*shape)
        np.testing.assert_allclose(served(s1), evaluated(s1), atol=1e-4)
    assert served(s1).dtype == np.float32


def test_openvino_takes_the_exports_precision(folder, evaluated):
    pytest.importorskip("openvino")
    s1 = radar(2, 60, 70)
    differences = {
        precision: np.nanmean(
            np.abs(predictor.load_predictor(str(folder / precision), engine=contract.OPENVINO)(s1) - evaluated(s1))
        )
        for precision in contract.PRECISIONS
    }
    assert differences["float32"] < 1e-5  # not OpenVINO's own choice, which is bfloat16 where there is any
    assert differences["bfloat16"] < 0.05


def test_openvino_falls_back_where_the_processor_has_no_bfloat16():
    class Core:
        def get_property(self, device, name):
            return ["FP32", "INT8"]

    assert openvino_engine._hint(Core(), contract.BFLOAT16) == "f32"


@pytest.mark.parametrize("model", ["otsu", "model_dir"])
def test_openvino_runs_exports_only(folder, model):
    path = model if model == predictor.OTSU else str(folder / model)
    with pytest.raises(UserError, match="--engine=openvino: .* is no exported SavedModel"):
        predictor.load_predictor(path, engine=contract.OPENVINO)


@pytest.fixture
def without_extras(monkeypatch):
    importing = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name in ("openvino", "tf2onnx", "onnxruntime"):
            raise ImportError(name)
        return importing(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_a_missing_extra_is_named(folder, without_extras, tmp_path):
    with pytest.raises(UserError, match=r"pip install 'flood_distill\[openvino\]'"):
        predictor.load_predictor(str(folder / "float32"), engine=contract.OPENVINO)
    with pytest.raises(UserError, match=r"pip install 'flood_distill\[onnx\]'"):
        export_model.export(str(folder / "model_dir"), str(tmp_path / "x"), export_format=contract.ONNX)
    assert not (tmp_path / "x").exists()


def test_onnx_through_onnxruntime(folder, evaluated, monkeypatch):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export_model, "_VERIFIED_SIZES_PX", ((33, 40),))
    export_model.export(str(folder / "model_dir"), str(folder / "onnx"), export_format=contract.ONNX)
    assert (folder / "onnx/1/assets.extra/model.json").exists()
    serve = onnx_format.serving_function(folder / "onnx/1")
    for shape in ((1, 17, 33), (2, 50, 61), (3, 70, 20)):
        s1 = radar(*shape)
        outputs = serve(**{contract.BACKSCATTER_DB: s1})
        probability, mask = outputs[contract.WATER_PROBABILITY], outputs[contract.WATER_MASK]
        np.testing.assert_allclose(probability, evaluated(s1), atol=1e-4)
        np.testing.assert_array_equal(mask, water_mask(probability, contract.WATER_THRESHOLD))
        assert mask.dtype == np.uint8


def test_formats_do_not_share_a_folder(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_format, "check_installed", lambda: None)
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").touch()
    with pytest.raises(UserError, match="1 holds saved_model.pb: give each format"):
        export_model.export(str(folder / "model_dir"), str(tmp_path), export_format=contract.ONNX)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_onnx_has_no_bfloat16(folder, tmp_path):
    with pytest.raises(UserError, match="--precision=bfloat16: .* ONNX is float32 only"):
        export_model.export(
            str(folder / "model_dir"), str(tmp_path), precision=contract.BFLOAT16, export_format=contract.ONNX
        )


def test_frozen_network_takes_any_size():
    network = lively_network()
    logits_fn = inference_graph.freeze(network)
    for size in ((33, 65), (49, 33)):
        images = image(*size)
        expected = network(images, training=False).numpy()
        np.testing.assert_allclose(logits_fn(images), expected, atol=1e-5 * np.abs(expected).max())
    assert logits_fn.get_concrete_function().variables == ()


@pytest.mark.parametrize(("size_px", "padded_px"), [(1, 1), (2, 17), (17, 17), (18, 33), (320, 321), (321, 321)])
def test_padded_size_is_the_next_multiple_of_16_plus_1(size_px, padded_px):
    assert sizes.padded_size_px(size_px, 16) == padded_px
