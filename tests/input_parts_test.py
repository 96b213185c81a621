"""Parts of batches make whole batches; batches can be named after the fact."""

import numpy as np
import pytest
from fake_records import make_numbered

from flood_distill import contract, input_pipeline
from flood_distill.input_pipeline import Part


def _sources():
    small, large = make_numbered(range(5)), make_numbered(range(20, 31))
    large.name = contract.WEAK
    return [small, large]


def _batches(num, **settings):
    dataset = input_pipeline.training_dataset(
        _sources(), **{"mixing": "size", "batch_size": 8, "crop_size_px": 17, "start_step": 2} | settings
    )
    return list(dataset.take(num).as_numpy_iterator())


@pytest.mark.parametrize(("count", "num_replicas"), [(1, 2), (2, 2), (2, 4), (4, 4)])
def test_parts_make_the_whole_batch_in_order(count, num_replicas):
    whole = np.concatenate([batch[contract.IMAGE] for batch in _batches(3)])
    replicas = num_replicas // count
    parts = [_batches(3 * replicas, part=Part(index, count, num_replicas)) for index in range(count)]
    in_order = [
        parts[index][step * replicas + replica][contract.IMAGE]
        for step in range(3)
        for index in range(count)
        for replica in range(replicas)
    ]
    assert {images.shape[0] for images in in_order} == {8 // num_replicas}
    np.testing.assert_array_equal(np.concatenate(in_order), whole)


@pytest.mark.parametrize("max_cache_bytes", [2**30, 50_000, 0])  # both sources in memory, the small one, none
def test_names_of_a_batch_are_those_of_its_examples(max_cache_bytes):
    settings = {"task": "distillation", "max_cache_bytes": max_cache_bytes, "shuffle_buffer": 4}
    batches, names = _batches(3, **settings), _batches(3, only_ids=True, **settings)
    for batch, named in zip(batches, names, strict=True):
        b4 = batch[contract.TEACHER_IMAGE][..., 4].astype(np.float64)  # number / 3000, whatever the crop
        numbers = np.rint(np.median(b4, axis=(1, 2)) * 3000).astype(int)
        assert [f"chip_{number}".encode() for number in numbers] == list(named[contract.CHIP_ID])
        of_small = [number < 20 for number in numbers]
        assert [name == contract.HAND.encode() for name in named[contract.DATASET]] == of_small
        assert 0 < sum(of_small) < len(of_small)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_evaluation_parts_hold_every_example_once_in_as_many_batches(count):
    parts = [
        list(
            input_pipeline.evaluation_dataset(
                make_numbered(range(7)),
                "test",
                inputs="s1",
                output_stride=16,
                batch_size=2,
                features=(contract.CHIP_ID,),
                part=Part(index, count, count),
            ).as_numpy_iterator()
        )
        for index in range(count)
    ]
    assert len({len(part) for part in parts}) == 1
    seen = [name for part in parts for batch in part for name in batch[contract.CHIP_ID] if name]
    assert sorted(seen) == [f"chip_{number}".encode() for number in range(7)]
