"""The published network, all 41 million weights, equals the reference's graph (half a minute a case on 2 cores)."""

import pytest
from reference_comparison import assert_equal, network, random_image, reference_network, write_checkpoint

NUM_VARIABLES = 41_412_066  # of the student, moving statistics among them


@pytest.fixture(scope="module")
def reference():
    """Xception-65 with variables of its own."""
    return reference_network()


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    """Its variables in a file."""
    return write_checkpoint(reference, tmp_path_factory.mktemp("reference"))


def test_the_reference_has_the_published_number_of_variables(reference):
    assert sum(value.size for value in reference.variables.values()) == NUM_VARIABLES


@pytest.mark.parametrize("output_stride", [8, 16])
def test_every_tap_branch_and_the_logits_equal_the_reference(reference, checkpoint, output_stride):
    model = network(checkpoint, output_stride=output_stride)
    for size in (65, 66, 100, 129):
        image = random_image(size, size)
        assert_equal(model(image), reference(image, output_stride))
