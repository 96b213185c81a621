"""The network equals the reference's graph on the weights of a TF1 checkpoint; at full width in tests/slow."""

import pytest
from reference_comparison import assert_equal, network, random_image, reference_network, write_checkpoint

NARROW = {"width_multiplier": 0.05, "num_middle_units": 2}


@pytest.fixture(scope="module")
def reference():
    """The reference with variables of its own."""
    return reference_network(**NARROW)


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    """Its variables in a file."""
    return write_checkpoint(reference, tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("output_stride", [8, 16])
def test_every_tap_branch_and_the_logits_equal_the_reference(reference, checkpoint, output_stride):
    model = network(checkpoint, output_stride=output_stride, **NARROW)
    for size in (65, 66, 100, 129):
        image = random_image(size, size)
        assert_equal(model(image), reference(image, output_stride))


@pytest.mark.parametrize("size", [(65, 65), (64, 50)])
def test_a_network_of_fixed_size_equals_the_reference(reference, checkpoint, size):
    """Sizes known beforehand take other paths: no explicit padding where it is not needed, fewer atrous taps."""
    image = random_image(*size)
    assert_equal(network(checkpoint, input_size=size, **NARROW)(image), reference(image))
