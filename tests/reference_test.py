"""The network equals the reference's graph on the weights of a TF1 checkpoint; at full width in tests/slow."""

import functools

import pytest
import reference_graph
from reference_comparison import assert_equal, network, random_image

from flood_distill.models import layers
from flood_distill.training import tf1_checkpoints

NARROW = {"width_multiplier": 0.05, "num_middle_units": 2}


@pytest.fixture(scope="module")
def reference():
    """The reference with variables of its own."""
    width = functools.partial(layers.scaled_channels, width_multiplier=NARROW["width_multiplier"])
    graph = reference_graph.ReferenceGraph(num_middle_units=NARROW["num_middle_units"], width=width)
    graph(random_image(33, 33))
    return graph


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    """Its variables in a file, as the reference writes them."""
    prefix = str(tmp_path_factory.mktemp("reference") / "model.ckpt")
    tf1_checkpoints.write(reference.variables, prefix)
    return prefix


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
