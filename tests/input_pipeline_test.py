"""Training batches: what reaches the networks, in which order, and that a resumed run sees the same."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from fake_records import FakeRecords, make_example, make_numbered, make_spoiled

from flood_distill import augmentation, contract, input_pipeline, normalization, streams
from flood_distill.errors import UserError
from flood_distill.training import strategies

NAN = np.float32("nan")
OFF = {
    "zoom_range": (1, 1),
    "aspect_range": (1, 1),
    "flip_horizontal": False,
    "flip_vertical": False,
    "s1_brightness": 0,
    "s1_contrast": 0,
    "s2_brightness": 0,
    "s2_contrast": 0,
}


@pytest.fixture
def without_augmentation(monkeypatch):
    plain = augmentation.augmentation(**OFF)
    monkeypatch.setattr(augmentation, "augmentation", lambda: plain)


@pytest.fixture
def without_jitter(monkeypatch):
    plain = augmentation.augmentation(**{name: value for name, value in OFF.items() if name.startswith("s")})
    monkeypatch.setattr(augmentation, "augmentation", lambda: plain)


def batches(sources, num_batches, **settings):
    settings = {"batch_size": 4, "crop_size_px": 17, "num_threads": 1} | settings
    dataset = input_pipeline.training_dataset(sources, **settings)
    return list(dataset.take(num_batches).as_numpy_iterator())


def numbers(batch):
    """The number that `make_numbered` wrote into each image, from VV: x = (v + 20) / 20, v = -20 + number / 100."""
    return [round(float(np.median(image[:8, :8, 0])) * 2000) for image in batch[contract.IMAGE]]


# --- What a batch holds ----------------------------------------------------------------------------------------------


def test_shapes_are_static_and_as_promised():
    records = FakeRecords([make_example(number) for number in range(3)])
    shapes = {
        ("supervised", "s1"): {"image": [4, 17, 17, 2], "label": [4, 17, 17]},
        ("supervised", "s1+s2"): {"image": [4, 17, 17, 6], "label": [4, 17, 17]},
        ("supervised", "s2"): {"image": [4, 17, 17, 4], "label": [4, 17, 17]},
        ("distillation", "s1"): {"image": [4, 17, 17, 2], "teacher_image": [4, 17, 17, 6], "valid": [4, 17, 17]},
    }
    dtypes = {"image": tf.float32, "teacher_image": tf.float32, "label": tf.int32, "valid": tf.bool}
    for (task, inputs), expected in shapes.items():
        spec = input_pipeline.training_dataset(
            [records], task=task, inputs=inputs, batch_size=4, crop_size_px=17
        ).element_spec
        assert {name: tensor.shape.as_list() for name, tensor in spec.items()} == expected
        assert all(tensor.dtype == dtypes[name] for name, tensor in spec.items())


def test_without_augmentation_a_full_crop_is_the_normalised_tile_and_a_row_and_column_of_padding(without_augmentation):
    example = make_example(3)
    (batch,) = batches([FakeRecords([example])], 1, batch_size=1, inputs="s1+s2")
    image, label = batch[contract.IMAGE][0], batch[contract.LABEL][0]
    expected = normalization.network_input("s1+s2", tf.constant(example[contract.S1]), example[contract.S2])
    np.testing.assert_array_equal(image[:16, :16], expected)
    np.testing.assert_array_equal(label[:16, :16], example[contract.LABEL])
    for padding in (slice(16, 17), np.s_[:, 16:]):
        assert (image[padding] == contract.FILL_VALUE).all()
        assert (label[padding] == contract.IGNORE_LABEL).all()


@pytest.mark.parametrize("crop_size_px", [9, 33])
def test_labels_move_with_the_image(without_jitter, crop_size_px):
    """VV and VH tell the row and column of each pixel: the label must be the one of that place."""
    records = FakeRecords([make_example(number, size_px=32) for number in range(2)])
    checked = 0
    for batch in batches([records], 4, crop_size_px=crop_size_px, inputs="s1+s2"):
        for image, label in zip(batch[contract.IMAGE], batch[contract.LABEL], strict=True):
            counted = label != contract.IGNORE_LABEL
            row, column = image[..., 0] * 400, image[..., 1] * 600  # v = -20 + row / 20, x = (v + 20) / 20
            np.testing.assert_allclose(
                image[counted][:, 2] * 300, row[counted], atol=0.02
            )  # B2 = 10 * row, x = B2 / 3000
            np.testing.assert_allclose(image[counted][:, 3] * 300, column[counted], atol=0.02)
            # Away from the borders of the label's 4 px squares, where nearest and bilinear may differ by rounding.
            inside = counted & (abs((row + 0.5) % 4 - 2) < 1.9) & (abs((column + 0.5) % 4 - 2) < 1.9)
            place = ((row + 0.5) // 4 + (column + 0.5) // 4).astype(int) % 2
            np.testing.assert_array_equal(label[inside], place[inside])
            checked += inside.sum()
    assert checked > 16 * crop_size_px**2 * 0.5


def test_every_orientation_occurs(without_jitter):
    records = FakeRecords([make_example(0, size_px=32)])
    seen = set()
    for batch in batches([records], 8):
        for image in batch[contract.IMAGE]:
            seen.add((image[12, 8, 0] > image[4, 8, 0], image[8, 12, 1] > image[8, 4, 1]))
    assert len(seen) == 4


def test_what_counts_for_a_student_a_teacher_and_in_distillation(without_augmentation):
    records = FakeRecords([make_spoiled()])
    settings = {"batch_size": 1, "crop_size_px": 17}
    s1_valid, s2_valid, labelled = (np.zeros((17, 17), bool) for _ in range(3))
    s1_valid[4:16, :16] = s2_valid[:16, 4:16] = labelled[:12, :16] = True

    (student,) = batches([records], 1, inputs="s1", **settings)
    np.testing.assert_array_equal(student[contract.LABEL][0] >= 0, s1_valid & labelled)
    (teacher,) = batches([records], 1, inputs="s1+s2", **settings)
    np.testing.assert_array_equal(teacher[contract.LABEL][0] >= 0, s1_valid & s2_valid & labelled)
    (optical,) = batches([records], 1, inputs="s2", **settings)
    np.testing.assert_array_equal(optical[contract.LABEL][0] >= 0, s2_valid & labelled)
    np.testing.assert_array_equal(optical[contract.IMAGE], teacher[contract.IMAGE][..., 2:])
    (distilled,) = batches([records], 1, task="distillation", **settings)
    np.testing.assert_array_equal(distilled[contract.VALID][0], s1_valid & s2_valid)
    for image in (teacher[contract.IMAGE][0], distilled[contract.TEACHER_IMAGE][0]):
        assert (image[..., :2][~s1_valid] == contract.FILL_VALUE).all()
        assert (image[..., 2:][~s2_valid] == contract.FILL_VALUE).all()
        assert (image[..., 5][s2_valid] == np.float32(1000 / 3000)).all()  # also where S1 has no data


def test_no_data_stays_out_through_all_of_augmentation():
    example = make_spoiled()
    other = {name: np.copy(value) for name, value in example.items()}
    other[contract.S1][:4] = np.inf  # no more valid than NaN
    for first, second in zip(*(batches([FakeRecords([e])], 4, inputs="s1+s2") for e in (example, other)), strict=True):
        np.testing.assert_array_equal(first[contract.IMAGE], second[contract.IMAGE])
        np.testing.assert_array_equal(first[contract.LABEL], second[contract.LABEL])
        assert first[contract.IMAGE].min() >= 0
        assert first[contract.IMAGE].max() <= 1


def test_a_tile_without_any_data_is_all_fill_and_never_counts():
    example = make_example(0)
    example[contract.S1][:] = NAN
    for batch in batches([FakeRecords([example])], 3):
        assert (batch[contract.IMAGE] == contract.FILL_VALUE).all()
        assert (batch[contract.LABEL] == contract.IGNORE_LABEL).all()


def test_distillation_never_reads_the_label():
    records = FakeRecords([make_example(number) for number in range(3)])
    batches([records], 1, task="distillation")
    assert records.decoded == {contract.S1, contract.S2, contract.HAS_S2}


@pytest.mark.usefixtures("without_augmentation")
def test_labels_beside_the_distillation_count_where_the_student_sees():
    records, settings = FakeRecords([make_spoiled()]), {"batch_size": 1, "crop_size_px": 17, "task": "distillation"}
    counted = np.zeros((17, 17), bool)
    counted[4:12, :16] = True  # Sentinel-1 from row 4 on, labels to row 11; Sentinel-2 plays no part
    (batch,) = batches([records], 1, label_weights=[0.5], **settings)
    np.testing.assert_array_equal(batch[contract.LABEL][0] >= 0, counted)
    np.testing.assert_array_equal(batch[contract.LABEL_WEIGHT], [0.5])
    (without,) = batches([records], 1, **settings)
    assert batch.keys() - without.keys() == {contract.LABEL, contract.LABEL_WEIGHT}
    for name, tensor in without.items():
        np.testing.assert_array_equal(batch[name], tensor)


@pytest.mark.parametrize("mixing", ["equal", "size"])
@pytest.mark.usefixtures("without_augmentation")
def test_each_label_weighs_what_its_dataset_weighs(mixing):
    hand, weak = make_numbered(range(3)), make_numbered(range(100, 105))
    settings = {"mixing": mixing, "task": "distillation", "label_weights": [2.0, 0.25]}
    drawn = batches([hand, weak], 6, **settings)
    weights = np.concatenate([batch[contract.LABEL_WEIGHT] for batch in drawn])
    expected = [2.0 if number < 100 else 0.25 for batch in drawn for number in numbers(batch)]
    np.testing.assert_array_equal(weights, expected)
    assert set(expected) == {2.0, 0.25}
    resumed = batches([hand, weak], 3, start_step=3, **settings)
    np.testing.assert_array_equal(np.concatenate([batch[contract.LABEL_WEIGHT] for batch in resumed]), expected[12:])


@pytest.mark.parametrize("teacher_view", ["same_crop", "clean_tile"])
def test_a_teacher_of_sentinel_2_alone_sees_those_bands_of_the_stack(teacher_view):
    settings = {"task": "distillation", "teacher_view": teacher_view}
    records = FakeRecords([make_spoiled(), make_example(1)])
    for alone, stack in zip(
        batches([records], 2, teacher_inputs="s2", **settings), batches([records], 2, **settings), strict=True
    ):
        np.testing.assert_array_equal(alone.pop(contract.TEACHER_IMAGE), stack.pop(contract.TEACHER_IMAGE)[..., 2:])
        for name in stack:
            np.testing.assert_array_equal(alone[name], stack[name])


@pytest.mark.parametrize("kind", ["geometric", "radiometric"])
def test_each_kind_of_augmentation_works_alone(monkeypatch, kind):
    radiometric = {name: value for name, value in OFF.items() if name.startswith("s")}
    geometric = {name: value for name, value in OFF.items() if not name.startswith("s")}
    alone = augmentation.augmentation(**(radiometric if kind == "geometric" else geometric))
    monkeypatch.setattr(augmentation, "augmentation", lambda: alone)
    records = FakeRecords([make_example(0)])
    (batch,) = batches([records], 1, inputs="s1+s2")
    tile = normalization.network_input(
        "s1+s2", tf.constant(records.examples[0][contract.S1]), records.examples[0]["s2"]
    )
    inside = np.s_[:, :16, :16]
    labels_stay = (batch[contract.LABEL][inside] == records.examples[0][contract.LABEL]).all()
    b8 = batch[contract.IMAGE][inside][..., 5]  # the same all over, and padding where a flip brings it in
    value_stays = (np.isclose(b8, 1000 / 3000, atol=1e-6) | (b8 == contract.FILL_VALUE)).all()
    assert (labels_stay, value_stays) == ((False, True) if kind == "geometric" else (True, False))
    assert (batch[contract.IMAGE][inside] != tile.numpy()).any()


def test_teacher_and_student_see_the_same_but_for_jitter(without_jitter):
    records = FakeRecords([make_example(number) for number in range(3)])
    for batch in batches([records], 2, task="distillation"):
        np.testing.assert_array_equal(batch[contract.IMAGE], batch[contract.TEACHER_IMAGE][..., :2])


def test_only_the_student_is_jittered():
    records = FakeRecords([make_example(number) for number in range(3)])
    for batch in batches([records], 2, task="distillation"):
        valid, teacher = batch[contract.VALID], batch[contract.TEACHER_IMAGE]
        assert (batch[contract.IMAGE] != teacher[..., :2])[valid].mean() > 0.9
        np.testing.assert_allclose(teacher[..., 5][valid], 1000 / 3000, atol=1e-6)


def test_a_teacher_on_the_clean_tile_can_be_read_through_the_students_window(without_jitter):
    """With an identity for a network, the teacher's warped output is the student's input."""
    records = FakeRecords([make_example(number, size_px=32) for number in range(3)])
    for batch in batches([records], 3, task="distillation", teacher_view="clean_tile"):
        tile = batch[contract.TEACHER_IMAGE]
        assert tile.shape == (4, 33, 33, 6)
        warped = augmentation.warp_logits(
            tile[..., :2], batch[contract.TEACHER_ROWS], batch[contract.TEACHER_COLUMNS]
        ).numpy()
        rows, columns = batch[contract.TEACHER_ROWS], batch[contract.TEACHER_COLUMNS]
        inside = batch[contract.VALID] & (rows < 31)[:, :, None] & (columns < 31)[:, None]
        np.testing.assert_allclose(warped[inside], batch[contract.IMAGE][inside], atol=1e-5)
        assert inside.mean() > 0.8


# --- Which examples, in which order ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_augmentation")
def test_every_epoch_is_a_permutation_and_epochs_differ():
    drawn = [n for batch in batches([make_numbered(range(12))], 9) for n in numbers(batch)]
    epochs = [drawn[first : first + 12] for first in (0, 12, 24)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("max_cache_bytes", [0, 2**30])
def test_a_resumed_run_sees_the_same_batches_bit_for_bit(max_cache_bytes):
    """7 + 10 examples in batches of 4: steps 0 to 7 cross several epochs of the first source."""
    sources = [make_numbered(range(7)), make_numbered(range(50, 60))]
    settings = {"mixing": "equal", "max_cache_bytes": max_cache_bytes, "shuffle_buffer": 3, "seed": 5}
    uninterrupted = batches(sources, 8, **settings)
    for start_step in (3, 7):
        resumed = batches(sources, 8 - start_step, start_step=start_step, **settings)
        for late, batch in zip(uninterrupted[start_step:], resumed, strict=True):
            for name in batch:
                np.testing.assert_array_equal(late[name], batch[name])


@pytest.mark.parametrize("max_cache_bytes", [0, 2**30])
def test_threads_do_not_change_a_bit_and_seeds_do(max_cache_bytes):
    records = make_numbered(range(7))
    settings = {"max_cache_bytes": max_cache_bytes, "shuffle_buffer": 4}
    one, more, other = (
        np.concatenate([batch[contract.IMAGE] for batch in batches([records], 4, **settings, **differing)])
        for differing in ({"num_threads": 1}, {"num_threads": 0}, {"seed": 1})
    )
    np.testing.assert_array_equal(one, more)
    assert (one != other).any(axis=(1, 2, 3)).mean() > 0.9


def test_the_seed_of_an_example_follows_from_its_number_not_from_the_batch():
    records = make_numbered(range(6))
    fours = np.concatenate([batch[contract.IMAGE] for batch in batches([records], 3, batch_size=4)])
    twelve = batches([records], 1, batch_size=12)[0][contract.IMAGE]
    np.testing.assert_array_equal(fours, twelve)


@pytest.mark.usefixtures("without_augmentation")
def test_equal_mixing_gives_exact_halves_of_every_batch():
    for batch in batches([make_numbered(range(3)), make_numbered(range(50, 90))], 6, mixing="equal"):
        assert sum(number >= 45 for number in numbers(batch)) == 2


@pytest.mark.usefixtures("without_augmentation")
def test_mixing_by_size_takes_every_example_once_a_round():
    # 4 + 12 examples, 8 batches of 4: two rounds of 16.
    drawn = [n for b in batches([make_numbered(range(4)), make_numbered(range(50, 62))], 8) for n in numbers(b)]
    assert collections.Counter(drawn) == dict.fromkeys([*range(4), *range(50, 62)], 2)
    assert sum(number < 50 for number in drawn[:4]) == 1  # a quarter of the first batch


@pytest.mark.parametrize(("cached", "passes"), [(True, 1), (False, 4)])
def test_a_cached_source_is_read_once_and_another_once_an_epoch(cached, passes):
    """Of the stream of examples: how far the batches after it are made ahead is a matter of time."""
    records = make_numbered(range(8))
    one_pass = streams.OnePass(records, contract.TRAIN_SPLIT, (contract.S1, contract.LABEL), only_with_s2=False)
    mixed = streams.mix([one_pass], [8], seed=0, start=0, cached=[cached], shuffle_buffer=8)
    assert sum(1 for _ in mixed.take(32)) == 32  # 4 epochs
    assert records.num_passes == passes


def test_order_follows_from_the_seed_alone():
    """Not from TensorFlow's global seed, whose 0 a shuffle by a tensor does not even take."""
    records, drawn = make_numbered(range(8)), []
    for global_seed in (0, 5):
        tf.random.set_seed(global_seed)
        drawn.append([numbers(batch) for batch in batches([records], 4, max_cache_bytes=0, shuffle_buffer=8)])
    assert drawn[0] == drawn[1]


def test_the_cache_holds_what_fits():
    # A 16 x 16 tile: 2048 bytes of S1 and 256 of labels; 4 tiles: 9216.
    small, large = make_numbered(range(4)), make_numbered(range(5))
    batches([small, large], 8, max_cache_bytes=9216)
    assert small.num_passes == 1
    assert large.num_passes > 1


@pytest.mark.parametrize("settings", [{"inputs": "s1+s2"}, {"task": "distillation"}])
@pytest.mark.parametrize("max_cache_bytes", [0, 2**30])
@pytest.mark.usefixtures("without_augmentation")
def test_teachers_and_distillation_use_only_examples_with_s2(settings, max_cache_bytes):
    records = make_numbered(range(9))
    for number in (0, 4, 8):
        records.examples[number][contract.HAS_S2] = np.bool_(False)
    drawn = [n for batch in batches([records], 6, max_cache_bytes=max_cache_bytes, **settings) for n in numbers(batch)]
    assert collections.Counter(drawn) == dict.fromkeys([1, 2, 3, 5, 6, 7], 4)


def test_a_strategy_splits_a_batch_without_changing_it():
    records = make_numbered(range(6))
    strategy = strategies.make_strategy("mirrored")
    dataset = input_pipeline.training_dataset([records], batch_size=4, crop_size_px=17)
    distributed = iter(strategy.experimental_distribute_dataset(dataset))
    for batch in batches([records], 3):
        parts = strategy.experimental_local_results(next(distributed)[contract.IMAGE])
        assert len(parts) == 2
        np.testing.assert_array_equal(np.concatenate([part.numpy() for part in parts]), batch[contract.IMAGE])


# --- Settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "self_distillation"}, "task='self_distillation': not one of supervised, distillation"),
        ({"inputs": "s3"}, "inputs='s3': not one of s1, s1\\+s2, s2"),
        ({"task": "distillation", "teacher_inputs": "s1"}, "teacher_inputs='s1': not one of s1\\+s2, s2"),
        ({"mixing": "random"}, "mixing='random': not one of size, equal"),
        ({"teacher_view": "none"}, "teacher_view='none': not one of same_crop, clean_tile"),
        ({"task": "distillation", "inputs": "s1+s2"}, "inputs='s1\\+s2': a distilled student looks at 's1'"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
        ({"start_step": -1}, "start_step=-1: give at least 0"),
        ({"num_threads": -1}, "num_threads=-1: give at least 0"),
        ({"mixing": "equal", "batch_size": 5}, "batch_size=5: not a multiple of the 2 sources"),
        ({"crop_size_px": 18}, "crop_size_px=18: give 1 to 17"),
        ({"crop_size_px": 0}, "crop_size_px=0: give 1 to 17"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        batches([make_numbered(range(3)), make_numbered(range(3))], 1, **settings)


def test_no_sources_and_different_tiles_are_refused():
    with pytest.raises(UserError, match="datasets is empty"):
        batches([], 1)
    with pytest.raises(UserError, match="tiles of different sizes"):
        batches([make_numbered([0]), make_numbered([0], size_px=32)], 1)


def test_a_source_that_is_not_what_it_promises_names_its_folder(monkeypatch):
    records = make_numbered(range(5), path="/data/hand")
    monkeypatch.setattr(records, "num_examples", lambda split: 6)
    with pytest.raises(UserError, match="/data/hand: split train does not hold the 6 examples it promises"):
        batches([records], 1)


def test_a_source_without_s2_names_its_folder():
    records = FakeRecords([make_example(0, has_s2=False)], path="/data/external/events/1.0.0")
    with pytest.raises(UserError, match="/data/external/events/1.0.0: split train has no examples with Sentinel-2"):
        batches([records], 1, task="distillation")


def test_mixed_examples_tell_their_dataset(without_augmentation):
    first, second = make_numbered(range(3)), make_numbered(range(100, 105))
    for batch in batches([first, second], 3, batch_size=4, mixing="equal"):
        number = np.round(batch[contract.IMAGE][:, 8, 8, 0] * 2000)  # VV = -20 + number / 100, x = (v + 20) / 20
        np.testing.assert_array_equal(batch[contract.DATASET_INDEX], number >= 100)
    (alone,) = batches([first], 1)
    assert contract.DATASET_INDEX not in alone
