"""TF1 checkpoints as the reference writes them: what is taken, adapted, left out, refused; and ours in their form."""

import numpy as np
import pytest
import tensorflow as tf
from reference_comparison import random_image, reference_network

from flood_distill.errors import UserError
from flood_distill.models import deeplab, layers
from flood_distill.training import pretrained, tf1_checkpoints

NARROW = {"width_multiplier": 0.05, "num_middle_units": 1}
FIRST_CONV = "xception_65/entry_flow/conv1_1/weights"
NOT_WEIGHTS = {
    "global_step": np.int64(300_000),
    "xception_65/logits/weights": np.zeros((1, 1, 104, 1001), np.float32),
    "xception_65/logits/biases": np.zeros(1001, np.float32),
    f"{FIRST_CONV}/Momentum": np.zeros((3, 3, 3, 8), np.float32),
    f"{FIRST_CONV}/ExponentialMovingAverage": np.zeros((3, 3, 3, 8), np.float32),
}


def _by_saver(variables, prefix):
    """Writes a checkpoint with TF1's own Saver."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in variables.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver().save(session, str(prefix))


@pytest.fixture(scope="module")
def reference():
    """The VOC network, narrow: RGB, 21 classes, one decoder stage at stride 4."""
    return reference_network(channels=3, decoder_strides=(4,), num_classes=21, **NARROW)


@pytest.fixture(scope="module")
def voc(reference, tmp_path_factory):
    """Its checkpoint, with what training leaves in one."""
    return _by_saver(reference.variables | NOT_WEIGHTS, tmp_path_factory.mktemp("voc") / "model.ckpt")


@pytest.fixture
def write(tmp_path):
    """Writes variables as a checkpoint in a folder of the test."""

    def written(variables):
        prefix = str(tmp_path / "model.ckpt")
        tf1_checkpoints.write(variables, prefix)
        return prefix

    return written


def _network(num_channels=3, **arguments):
    return deeplab.deeplab_v3_plus(num_channels, **{**NARROW, "decoder_strides": (4,), "seed": 0, **arguments})


def _values(model):
    return {name: variable.numpy() for name, variable in layers.checkpoint_names(model).items()}


def _encoder_of(variables):
    return {name: value for name, value in variables.items() if name.startswith("xception_65/")}


def test_every_tensor_lands_under_its_name_and_the_outputs_are_the_reference_s(reference, voc):
    model = _network(num_classes=21, input_range=(-1, 1))
    report = pretrained.load(model, voc)
    values = _values(model)
    assert values.keys() == reference.variables.keys() == set(report.loaded)
    for name, value in values.items():
        np.testing.assert_array_equal(value, reference.variables[name], err_msg=name)
    assert report.left_out.keys() == NOT_WEIGHTS.keys()
    assert not report.adapted
    assert not report.initial
    image = random_image(65, 50, channels=3)
    expected = reference(2 * image - 1)["logits"]
    np.testing.assert_allclose(model(image), expected, atol=1e-4 * np.abs(expected).max())


def test_student_takes_what_it_shares_with_a_public_checkpoint(reference, voc):
    """Two channels, two classes and a second decoder stage: three differences to the VOC network."""
    model = _network(2, decoder_strides=(4, 2))
    before = _values(model)
    report = pretrained.load(model, voc)
    after = _values(model)
    np.testing.assert_array_equal(after[FIRST_CONV], reference.variables[FIRST_CONV][:, :, :2] * np.float32(3 / 2))
    assert report.adapted == {FIRST_CONV: "3 input channels repeated to 2, times 3/2"}
    second_stage = {name for name in after if name.startswith("decoder/") and "0_1" in name or "conv1_1" in name}
    second_stage -= {name for name in second_stage if name.startswith("xception_65")}
    logits = {"logits/semantic/weights", "logits/semantic/biases"}
    assert set(report.initial) == second_stage | logits
    assert {report.left_out[name] for name in logits} == {"logits of 21 classes, the network has 2"}
    for name in report.initial:
        np.testing.assert_array_equal(after[name], before[name])
    for name in report.loaded:
        np.testing.assert_array_equal(after[name], reference.variables[name])
    assert len(after) == len(report.loaded) + len(report.adapted) + len(report.initial)
    lines = str(report).splitlines()
    assert "2 logits of 21 classes, the network has 2" in lines[3]
    assert "25 decoder stage 1" in lines[4]


def test_imagenet_checkpoint_lacks_the_head_and_that_is_said(reference, write):
    encoder = _encoder_of(reference.variables)
    report = pretrained.load(_network(2), write(encoder | NOT_WEIGHTS))
    assert set(report.loaded) | set(report.adapted) == encoder.keys()
    assert set(report.initial) == reference.variables.keys() - encoder.keys()
    assert "initialised anew: 45 ASPP, 25 decoder stage 0, 2 logits" in str(report)


def test_encoder_only_leaves_the_head_of_the_network_alone(reference, voc):
    model = _network(num_classes=21)
    before = _values(model)
    report = pretrained.load(model, voc, part="encoder")
    assert set(report.loaded) == _encoder_of(reference.variables).keys()
    np.testing.assert_array_equal(_values(model)["aspp0/weights"], before["aspp0/weights"])
    assert report.left_out["aspp0/weights"] == "the head, not asked for"


def test_network_without_decoder_leaves_the_checkpoint_s_out(voc):
    report = pretrained.load(_network(decoder_strides=()), voc)
    assert report.left_out["decoder/feature_projection0/weights"] == "decoder stage 0, which the network has not"


@pytest.mark.parametrize(
    ("num_channels", "expected"),
    # R, G, B = 1, 2, 3, repeated and cut, times 3 / N
    [(1, [3.0]), (2, [1.5, 3.0]), (3, [1, 2, 3]), (4, [0.75, 1.5, 2.25, 0.75]), (6, [0.5, 1, 1.5, 0.5, 1, 1.5])],
)
def test_first_convolution_repeats_the_channels(num_channels, expected):
    kernel = np.broadcast_to(np.array([1, 2, 3], np.float32)[:, None], (3, 3, 3, 5))
    adapted = pretrained.adapted_first_conv(kernel, num_channels)
    assert adapted.shape == (3, 3, num_channels, 5)
    assert adapted.dtype == np.float32
    np.testing.assert_array_equal(adapted[1, 2, :, 4], expected)


# --- What is refused, before anything is assigned --------------------------------------------------------------------

GAMMA = "xception_65/exit_flow/block2/unit_1/xception_module/separable_conv2_pointwise/BatchNorm/gamma"


@pytest.fixture(scope="module")
def untouched():
    """The network of the reference's size, for tests that assign nothing."""
    return _network(num_classes=21)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda variables: variables.pop(GAMMA), "separable_conv2_pointwise/BatchNorm/gamma: not in the checkpoint"),
        (lambda variables: variables.pop("aspp2_depthwise/BatchNorm/beta"), "aspp2_depthwise.*: not in the checkpoint"),
        (lambda variables: variables.update({"aspp4/weights": np.zeros(3)}), "aspp4/weights: not in the network"),
        (lambda variables: variables.update({"generator/w": np.zeros(3)}), "generator/w: not in the network"),
        (
            lambda variables: variables.update(
                {GAMMA.replace("exit_flow/block2/unit_1", "middle_flow/block1/unit_2"): [1.0]}
            ),
            "middle_flow.*: not in the network; network.num_middle_units",
        ),
        (lambda variables: variables.update({GAMMA: np.zeros(2048)}), r"gamma is \[2048\] there and \[80\]"),
        (lambda variables: variables.update({FIRST_CONV: np.zeros((3, 3, 3, 32))}), r"\[3, 3, 3, 32\] there and"),
        (lambda variables: variables[GAMMA].__setitem__(0, np.nan), "gamma holds values that are not finite"),
    ],
)
def test_checkpoint_of_another_network_is_refused(reference, write, untouched, change, message):
    variables = {name: value.copy() for name, value in reference.variables.items()}
    change(variables)
    before = untouched.get_weights()
    with pytest.raises(UserError, match=message):
        pretrained.load(untouched, write(variables))
    for old, new in zip(before, untouched.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_checkpoint_of_another_backbone_is_refused(write, untouched):
    with pytest.raises(UserError, match="no variable under xception_65/"):
        pretrained.load(untouched, write({"MobilenetV2/Conv/weights": np.zeros((3, 3, 3, 32), np.float32)}))


def test_unknown_part_is_refused(voc, untouched):
    with pytest.raises(UserError, match="'decoder'.*whole, encoder"):
        pretrained.load(untouched, voc, part="decoder")


# --- Finding and reading the files -----------------------------------------------------------------------------------


def test_checkpoint_is_found_by_prefix_file_and_folder(tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    tf1_checkpoints.write({"a": np.zeros(2, np.float32)}, prefix)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
    ]
    for path in (prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001", str(tmp_path)):
        assert tf1_checkpoints.find(path) == prefix
    tf1_checkpoints.write({"a": np.zeros(2, np.float32)}, str(tmp_path / "model.ckpt-5"))
    with pytest.raises(UserError, match="several checkpoints .*: model.ckpt, model.ckpt-5"):
        tf1_checkpoints.find(str(tmp_path))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"\n')
    assert tf1_checkpoints.find(str(tmp_path)) == f"{prefix}-5"
    with pytest.raises(UserError, match="nowhere: no TF1 checkpoint"):
        tf1_checkpoints.find(str(tmp_path / "nowhere"))


def test_damaged_checkpoint_is_named(voc, untouched, tmp_path):
    for suffix in (".index", ".data-00000-of-00001"):
        content = tf.io.gfile.GFile(voc + suffix, "rb").read()
        half = content[: len(content) // 2] if suffix != ".index" else content
        tf.io.gfile.GFile(f"{tmp_path}/model.ckpt{suffix}", "wb").write(half)
    with pytest.raises(UserError, match="model.ckpt: damaged or incomplete"):
        pretrained.load(untouched, str(tmp_path / "model.ckpt"))


# --- Ours in their form ----------------------------------------------------------------------------------------------


def test_saved_weights_have_the_reference_s_names_and_come_back(tmp_path):
    model = _network(2, decoder_strides=(4, 2))
    prefix = str(tmp_path / "model.ckpt")
    pretrained.save(model, prefix, input_range=(0, 1), step=30_000)
    reader = tf.train.load_checkpoint(prefix)
    values = _values(model)
    extra = {"global_step", "flood_distill/input_range"}
    assert reader.get_variable_to_shape_map().keys() == values.keys() | extra
    for name, value in values.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value, err_msg=name)
    assert reader.get_tensor("global_step") == 30_000
    assert pretrained.input_range(prefix) == (0, 1)
    again = _network(2, decoder_strides=(4, 2), seed=1)
    assert not pretrained.load(again, prefix).initial
    image = random_image(40, 33)
    np.testing.assert_array_equal(again(image), model(image))


def test_public_checkpoints_expect_inputs_from_minus_one_to_one(voc):
    assert pretrained.input_range(voc) == (-1, 1)
