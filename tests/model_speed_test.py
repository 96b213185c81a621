"""What the benchmark of the model counts and reads."""

import pytest

from benchmarks import model_cases, model_speed, op_profile


def test_multiply_adds_are_those_of_the_reference():
    settings = model_cases.Settings(
        size_px=321, batch_size=1, width_multiplier=1.0, num_middle_units=16, decoder_strides=(4,), matrix_size=1
    )
    ours = sum(model_cases.multiply_adds(settings).values())
    third_channel = 161 * 161 * 3 * 3 * 32  # first convolution: the reference sees 3 channels, we 2
    more_classes = 81 * 81 * 256 * (21 - 2)  # logits: the reference has 21 classes, we 2
    assert (ours + third_channel + more_classes) / 1e9 == pytest.approx(21.768, abs=5e-4)


def test_last_line_of_json_counts():
    output = 'warming up\n{"inference_images_per_s": 1}\n{"inference_images_per_s": 2.5}\ndone\n3\n'
    assert model_speed.peer_numbers(output) == {"inference_images_per_s": 2.5}
    with pytest.raises(ValueError, match="no line of JSON"):
        model_speed.peer_numbers("nothing\n")


@pytest.mark.parametrize("command", ["false", "echo nothing", "no_such_program"])
def test_a_peer_that_fails_does_not_take_our_numbers_along(command, capsys):
    assert model_speed.run_peer_or_warn(command) == []
    assert "no peer" in capsys.readouterr().err
    (numbers,) = model_speed.run_peer_or_warn("echo '{\"inference_images_per_s\": 2}'")
    assert numbers["inference_images_per_s"] == 2


def test_time_and_work_are_summed_by_group():
    operations = [
        ("net/xception_65-middle_flow-a_pointwise/convolution", "_MklNativeConv2D", 3.0),
        ("net/xception_65-middle_flow-a_depthwise/depthwise", "DepthwiseConv2dNative", 1.0),
    ]
    work = {"xception_65-middle_flow-a_pointwise": 90, "xception_65-middle_flow-a_depthwise": 10}
    rows = op_profile.table(operations, work, gflop=100.0, matrix_rate=60.0)
    assert [(row["group"], row["kind"]) for row in rows] == [
        ("middle flow", "convolution"),
        ("middle flow", "depthwise"),
    ]
    assert [row["share_of_time"] for row in rows] == [0.75, 0.25]
    assert [row["gflop_per_second"] for row in rows] == [30.0, 10.0]  # 90 / 3, 10 / 1
    assert rows[0]["share_of_matrix_product"] == 0.5
