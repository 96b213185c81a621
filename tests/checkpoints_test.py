"""State survives what happens to files: truncation, flipped bytes, kills between two files, full disks."""

import math
import subprocess
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract, model_info
from flood_distill.errors import UserError
from flood_distill.training import checkpoint_folder, checkpoints, model_files, strategies
from flood_distill.training.checkpoint_folder import CheckpointFolder

VALUES = 20_000  # float32 numbers of a state: 80 kB


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def _state(folder, max_to_keep=3, write=True):
    """A variable whose checkpoint N holds N all over."""
    value = tf.Variable(tf.zeros([VALUES]))
    kept = CheckpointFolder(tf.train.Checkpoint(value=value), folder, max_to_keep, write)

    def save(number):
        value.assign(tf.fill([VALUES], float(number)))
        kept.save(number)

    return save


def _restored(folder):
    value = tf.Variable(tf.zeros([VALUES]))
    path = checkpoint_folder.newest_whole(folder)
    tf.train.Checkpoint(value=value).restore(path).assert_existing_objects_matched()
    return set(value.numpy())


def _numbers(folder):
    """Of the checkpoints in the folder; every file there belongs to one, or is TensorFlow's list of them."""
    files = {path.name for path in folder.iterdir()} - {"checkpoint"}
    numbers = sorted(int(name.removeprefix("ckpt-").removesuffix(".index")) for name in files if ".index" in name)
    assert files == {f"ckpt-{n}.{end}" for n in numbers for end in ("index", "data-00000-of-00001")}
    return numbers


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "data truncated": ("data-00000-of-00001", _truncate),
    "data empty": ("data-00000-of-00001", _empty),
    "data missing": ("data-00000-of-00001", lambda path: path.unlink()),
    "a bit of the data flipped": ("data-00000-of-00001", _flip),
    "index truncated": ("index", _truncate),
    "index empty": ("index", _empty),
    "a bit of the index flipped": ("index", _flip),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoint_falls_back_to_the_one_before(folder, capsys, name):
    end, damage = DAMAGES[name]
    save = _state(folder)
    save(10)
    save(20)
    damage(folder / f"ckpt-20.{end}")
    assert _restored(folder) == {10.0}
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {folder}/ckpt-20 is damaged")
    assert warning.count("\n") == 1
    # The run goes on from 10: what it saves next counts, though its number is lower.
    _state(folder)(15)
    assert _restored(folder) == {15.0}
    assert _numbers(folder) == [10, 15]


def test_all_damaged_is_an_error_and_no_new_start(folder):
    save = _state(folder)
    for number in (1, 2):
        save(number)
        _truncate(folder / f"ckpt-{number}.data-00000-of-00001")
    with pytest.raises(UserError, match="no checkpoint in it can be read"):
        checkpoint_folder.newest_whole(folder)
    assert _numbers(folder) == [1, 2]  # nothing was removed: a copy can be put back


def test_only_the_latest_stay_whatever_the_list_says(folder):
    save = _state(folder, max_to_keep=2)
    assert checkpoint_folder.newest_whole(folder) is None
    for number in (1, 2, 3):
        save(number)
    assert _numbers(folder) == [2, 3]
    (folder / "checkpoint").write_text("damaged {")
    assert _restored(folder) == {3.0}
    save = _state(folder, max_to_keep=2)
    save(4)
    save(5)
    assert _numbers(folder) == [4, 5]


def test_what_a_killed_save_left_goes_with_the_next_one(folder):
    _state(folder)(1)
    (folder / "ckpt-2_temp").mkdir()
    (folder / "ckpt-2_temp/part-00000-of-00001.data-00000-of-00001.tempstate123").write_bytes(b"half")
    (folder / "ckpt-3.data-00000-of-00001").write_bytes(b"an index was to follow")
    assert _restored(folder) == {1.0}
    _state(folder)(4)
    assert _numbers(folder) == [1, 4]


def test_number_is_replaced_without_a_moment_of_mixed_files(folder, monkeypatch):
    _state(folder)(1)
    _state(folder)(2)
    save = _state(folder)

    def killed(*_, **__):
        assert _restored(folder) == {1.0}  # 2 is not there while it is written
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.train.CheckpointManager, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save(2)


def test_worker_beside_the_chief_writes_nothing(folder):
    _state(folder, write=False)(1)
    assert not folder.exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB: two states and a bit."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk_is_one_clear_line_and_leaves_the_last_good_one(small_disk):
    folder = small_disk / "checkpoints"
    save = _state(folder)
    save(1)
    save(2)
    with pytest.raises(
        UserError, match="checkpoint 3 cannot be written .*No space left on device.*; .* make room"
    ) as e:
        save(3)
    assert "\n" not in str(e.value)
    assert _numbers(folder) == [1, 2]
    assert _restored(folder) == {2.0}
    (folder / "ckpt-1.index").unlink()
    (folder / "ckpt-1.data-00000-of-00001").unlink()
    save(3)  # there is room now
    assert _restored(folder) == {3.0}


NETWORK = {"num_channels": 2}


def _trainer(steps=0, strategy="cpu"):
    """All kinds of state that a run can have: batch norms, momenta, the scale of a loss in float16.

    But for dropout's, which follows from seed and step: trainer_test.
    """
    distribution = strategies.make_strategy(strategy)
    keras.utils.set_random_seed(1)
    with distribution.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
        schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 50)
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(schedule, momentum=0.9), dynamic_growth_steps=2
        )
        optimizer.build(model.trainable_variables)
        step = tf.Variable(steps, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
    one = types.SimpleNamespace(model=model, optimizer=optimizer, step=step, strategy=distribution)
    distribution.run(tf.function(lambda: [_move(one) for _ in range(steps)] and tf.constant(0)))
    return one


def _move(one):
    one.model(tf.random.uniform([4, 2]), training=True)
    one.optimizer.apply([tf.random.uniform(v.shape) for v in one.model.trainable_variables])
    return one.step


def _run_state(trainer, model_dir, **kwargs):
    info = model_info.ModelInfo("t", "supervised", "s1", NETWORK, [contract.HAND], contract.HAND, "synthetic", seed=0)
    state = checkpoints.RunState(trainer, str(model_dir), info, max_to_keep=2, **kwargs)
    if not (model_dir / contract.MODEL_JSON).exists():
        model_info.write(info, model_dir)
    return state


def _variables(trainer):
    """In the order of their making: Keras numbers the names of every new model on."""
    variables = (*trainer.model.variables, *trainer.optimizer.variables, trainer.optimizer.learning_rate)
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("strategy", ["cpu", "mirrored"])
def test_restored_state_is_the_saved_state_to_the_last_bit(tmp_path, strategy):
    one = _trainer(5, strategy)
    state = _run_state(one, tmp_path)
    assert state.offer_best(0.4, threshold=0.5)
    assert not state.offer_best(0.4, threshold=0.3)
    state.save()
    saved, again = _variables(one), _trainer(strategy=strategy)
    fresh = _variables(again)
    # Everything has moved, so that what is not restored shows; but for the wrapper's own step and rate, which idle.
    assert sum(map(np.array_equal, saved, fresh)) == 2
    resumed = _run_state(again, tmp_path)
    assert resumed.restore() == 5
    assert resumed.best == (5, 0.4)
    for before, after in zip(saved, _variables(again), strict=True):
        np.testing.assert_array_equal(before, after)


def _after_best(tmp_path, *ious):
    """State and trainer after one checkpoint and validations of these IoUs at steps 1, 2, ..."""
    one = _trainer()
    state = _run_state(one, tmp_path)
    state.save()
    for iou in ious:
        one.step.assign_add(1)
        one.model.trainable_variables[0].assign(tf.fill([2, 3], iou))
        state.offer_best(iou, threshold=iou / 2)
    return state


def _best_weight(model_dir):
    path = checkpoint_folder.newest_whole(model_dir / contract.BEST_DIR)
    model = _trainer().model
    tf.train.Checkpoint(model=model).restore(path).assert_existing_objects_matched().expect_partial()
    return float(model.trainable_variables[0][0, 0])


def test_best_is_what_its_folder_holds_though_the_checkpoint_is_older(tmp_path):
    assert _after_best(tmp_path, 0.25, 0.75, 0.5).best == (2, 0.75)
    model_info.write(
        model_info.ModelInfo(**(vars(model_info.read(tmp_path)) | {"iou": 0.25, "threshold": 0.5})), tmp_path
    )  # killed here
    one = _trainer()
    resumed = _run_state(one, tmp_path)
    assert resumed.restore() == 0  # killed before a second checkpoint
    assert resumed.best == (2, 0.75)
    info = model_info.read(tmp_path)
    assert (info.step, info.iou, info.threshold) == (2, 0.75, 0.375)
    assert not resumed.offer_best(0.5, threshold=0.5)
    assert _best_weight(tmp_path) == 0.75
    assert _numbers(tmp_path / "best") == [2]  # the second one that was written


def test_damaged_best_is_chosen_anew(tmp_path, capsys):
    _after_best(tmp_path, 0.75)
    _truncate(tmp_path / "best/ckpt-1.data-00000-of-00001")
    with pytest.raises(UserError, match="no checkpoint in it can be read"):
        checkpoint_folder.newest_whole(tmp_path / "best")
    one = _trainer()
    resumed = _run_state(one, tmp_path)
    resumed.restore()
    assert "the next validation chooses anew" in capsys.readouterr().err
    assert resumed.best == (0, -math.inf)
    one.model.trainable_variables[0].assign(tf.fill([2, 3], 0.5))
    assert resumed.offer_best(0.5, threshold=0.5)
    assert _best_weight(tmp_path) == 0.5


def test_run_without_checkpoint_starts_anew(tmp_path):
    _after_best(tmp_path, 0.75)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    state = _run_state(_trainer(), tmp_path)
    assert state.restore() == 0
    assert state.best == (0, -math.inf)


def test_other_optimizer_is_refused(tmp_path):
    _after_best(tmp_path)
    other = _trainer()
    other.optimizer = keras.optimizers.SGD(0.1)  # no momenta, no scale
    other.optimizer.build(other.model.trainable_variables)
    with pytest.raises(UserError, match="holds another state than these settings make"):
        _run_state(other, tmp_path).restore()


def test_workers_that_see_different_folders_are_told(tmp_path):
    one = _trainer()
    # Two workers; the other one has restored step 500.
    one.strategy = types.SimpleNamespace(
        num_replicas_in_sync=2, run=lambda f, args: f(*args), reduce=lambda op, own, axis: own + 500
    )
    with pytest.raises(UserError, match="goes on from step 0, another one does not"):
        _run_state(one, tmp_path).restore()


def test_description_without_weights_is_no_model(tmp_path):
    model_info.write(
        model_info.ModelInfo(
            "t",
            "supervised",
            "s1",
            {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1},
            [contract.HAND],
            contract.HAND,
            "synthetic",
            seed=0,
        ),
        tmp_path,
    )
    with pytest.raises(UserError, match="no best checkpoint yet"):
        model_files.load_best(str(tmp_path))
