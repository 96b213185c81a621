"""What a run shows of itself: training.csv, TensorBoard, loss by dataset, agreement with the teacher, maps, summary."""

import fake_records
import keras
import numpy as np
import pytest
import tensorflow as tf
from etils import epath
from PIL import Image

from flood_distill import contract, model_info
from flood_distill.losses import distillation
from flood_distill.training import agreement, observer, run_log, source_losses, strategies, summary, training_csv
from flood_distill.training.example_maps import ExampleMaps
from flood_distill.training.progress import Progress
from flood_distill.training.teacher import Teacher

DATASETS = (contract.HAND, contract.EXTERNAL)


def _report(**more):
    return {training_csv.LEARNING_RATE: 0.1, training_csv.LOSS: 0.5, training_csv.IMAGES_PER_SECOND: 4.0} | more


def _info(name, inputs):
    arguments = {"network": {"output_stride": 16}, "train_datasets": [contract.HAND], "dataset": contract.HAND}
    return model_info.ModelInfo(name=name, task="supervised", inputs=inputs, source="synthetic", seed=0, **arguments)


def _network(num_channels, water_channel):
    """Water where a channel is dark: logits 0 for dry and 10 - 20 x for water."""
    image = keras.Input([None, None, num_channels])
    model = keras.Model(image, keras.layers.Conv2D(contract.NUM_CLASSES, 1)(image))
    kernel = np.zeros((1, 1, num_channels, contract.NUM_CLASSES), np.float32)
    kernel[0, 0, water_channel, contract.WATER] = -20.0
    model.layers[-1].set_weights([kernel, np.array([0.0, 10.0], np.float32)])
    return model


def test_rows_of_a_resumed_run_continue_in_steps_and_hours(tmp_path, monkeypatch):
    clock = iter(np.arange(0, 36000, 900.0))  # a quarter of an hour between two looks
    monkeypatch.setattr(run_log.time, "monotonic", lambda: next(clock))
    columns = training_csv.columns(DATASETS, distillation=True)
    first = run_log.RunLog(str(tmp_path), 0, columns)
    first.report(10, _report())
    first.report(20, _report(**{training_csv.VALIDATION_IOU: 0.25, training_csv.TEACHER_AGREEMENT: 0.75}))
    first.report(30, _report())  # not in the checkpoint that the run goes on from
    first.flush()
    second = run_log.RunLog(str(tmp_path), 20, columns)
    second.report(30, _report(**{training_csv.loss_of(contract.HAND): 0.125, training_csv.IMAGES_PER_SECOND: 2.0}))
    second.flush()
    rows = training_csv.read(tmp_path)
    assert [int(row["step"]) for row in rows] == [10, 20, 30]
    assert [float(row["hours"]) for row in rows] == [0.25, 0.5, 0.75]
    assert rows[2]["loss/sen1floods11/hand"] == "0.125"
    assert training_csv.validations(rows) == [(20, 0.25)]
    # 10 + 10 steps at 4, then 10 at 2 images a second: 30 / (5 + 5), whatever the batch.
    assert training_csv.images_per_second(rows) == pytest.approx(3.0)


def test_tensorboard_has_scalars_histograms_and_pictures(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "some.png")
    log = run_log.RunLog(str(tmp_path), 0)
    log.report(1, _report())
    log.weight_histograms(1, _network(2, 0))
    log.picture(1, "examples", epath.Path(tmp_path / "some.png"))
    log.flush()
    events = [
        value.tag
        for path in (tmp_path / contract.TENSORBOARD_DIR).iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    assert {training_csv.LOSS, training_csv.LEARNING_RATE, "examples"} <= set(events)
    assert sum(tag.startswith("weights/") for tag in events) == 2  # kernel and bias


def test_progress_shows_loss_iou_speed_and_time_left(capsys):
    with Progress("student", 10, 40) as bar:
        bar.show(20, _report(**{training_csv.VALIDATION_IOU: 0.25}), (20, 0.25))
        bar.show(40, _report(), (20, 0.25))
    shown = capsys.readouterr().err
    assert "loss 0.5000, IoU 0.2500, best 0.2500 at 20, 4 images/s" in shown
    assert "40/40" in shown


@pytest.mark.parametrize("strategy", ["cpu", "mirrored"])
def test_loss_of_each_dataset_is_that_of_its_examples_over_all_replicas(strategy):
    sums, weights, index = [2.0, 6.0, 5.0, 1.0], [1.0, 2.0, 10.0, 0.0], [0, 0, 1, 1]
    distribution = strategies.make_strategy(strategy)
    with distribution.scope():
        losses = source_losses.SourceLosses(lambda _, batch: (batch["sums"], batch["weights"]), DATASETS)
    batch = {"sums": sums, "weights": weights, contract.DATASET_INDEX: index}
    batches = tf.data.Dataset.from_tensors(batch).map(
        lambda one: {name: tf.cast(value, tf.int32 if "index" in name else tf.float32) for name, value in one.items()}
    )
    step = tf.function(lambda one: distribution.run(losses, args=(tf.zeros([1, 5, 5, 2]), one)))
    for one in distribution.experimental_distribute_dataset(batches.unbatch().batch(4).repeat(3)):
        step(one)
    # Every step the same: (2 + 6) / (1 + 2) and (5 + 1) / (10 + 0).
    expected = {"loss/sen1floods11/hand": pytest.approx(8 / 3), "loss/external/events": pytest.approx(0.6)}
    assert losses.take() == expected
    assert losses.take() == {}


def test_agreement_measures_the_distance_of_the_loss():
    rng = np.random.default_rng(0)
    batch = {
        contract.IMAGE: rng.random((2, 9, 9, 2), np.float32),
        contract.TEACHER_IMAGE: rng.random((2, 9, 9, 6), np.float32),
        contract.VALID: rng.random((2, 9, 9)) < 0.7,
    }
    student, teacher = _network(2, 1), _network(6, 1)
    compare = agreement.TeacherAgreement(strategies.make_strategy("cpu"), student, teacher)
    found = agreement.means(compare.sums({name: tf.constant(value) for name, value in batch.items()}))
    valid = batch[contract.VALID]
    logits = student(batch[contract.IMAGE]), teacher(batch[contract.TEACHER_IMAGE])
    total, count = distillation.distillation(*logits, valid)
    assert found[training_csv.TEACHER_DISTANCE] == pytest.approx(float(sum(total)) / float(sum(count)), rel=1e-5)
    # Water is where channel 1 is below a half.
    same = (batch[contract.IMAGE][..., 1] <= 0.5) == (batch[contract.TEACHER_IMAGE][..., 1] <= 0.5)
    assert found[training_csv.TEACHER_AGREEMENT] == pytest.approx(same[valid].mean())
    assert agreement.means(tf.zeros([3])) == {}


def test_observer_draws_maps_when_due_and_at_the_end(tmp_path):
    records = fake_records.FakeRecords([fake_records.make_example(number) for number in range(3)])
    records.name = contract.HAND
    teacher = Teacher(_network(6, 0), _info("the_teacher", contract.INPUT_S1_S2))
    path, made = epath.Path(tmp_path / contract.EXAMPLES_PNG), []

    def make_maps(num_maps):
        made.append(num_maps)
        return ExampleMaps(records, teacher, num_maps)

    settings = observer.monitoring(num_maps=2, maps_every=100, histograms_every=0)
    log = run_log.RunLog(str(tmp_path), 60)
    look = observer.Observer(
        settings, log, _network(2, 1), _info("it", contract.INPUT_S1), make_maps, str(tmp_path), 60
    )
    look.look(90, last=False)
    assert not path.exists()
    look.look(120, last=False)  # 100 lies between 90 and 120
    width, height = Image.open(path).size
    assert width > 1.5 * height  # five columns, two rows
    path.unlink()
    look.look(150, last=False)
    assert not path.exists()
    look.look(160, last=True)
    assert path.exists()
    assert made == [2]


def test_summary_gives_result_files_and_commands(tmp_path):
    log = run_log.RunLog(str(tmp_path), 0)
    log.report(10, _report())
    log.flush()
    text = summary.summary(str(tmp_path), "my records", 5, 0.5, 10)
    assert "best validation IoU 0.5000 at step 5 of 10; 0.00 hours, 4 images/s" in text
    assert str(tmp_path / contract.TRAINING_CSV) in text
    assert contract.EXAMPLES_PNG not in text  # there is none
    evaluate = f"python -m flood_distill.evaluate --model={tmp_path} '--data_dir=my records' --split=test"
    assert f"{evaluate} --output_dir={tmp_path}/evaluation" in text
    assert f"python -m flood_distill.export --model_dir={tmp_path} --export_dir={tmp_path}/export" in text
