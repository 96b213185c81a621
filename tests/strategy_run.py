"""Twenty steps and a validation under a strategy, on a network that rounding does not drive apart.

As a program, one worker of several: python tests/strategy_run.py RESULT.npz (TF_CONFIG says which).
"""

import functools
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from fake_records import FakeRecords, make_example

from flood_distill import contract, input_pipeline
from flood_distill.training import fused_batch_norm, objectives, strategies, trainer

NUM_STEPS = 20
BATCH_SIZE = 8
SIZE_PX = 17
NUM_VALIDATION = 11  # no multiple of anything


def records(num_examples: int) -> FakeRecords:
    """Examples of 16 x 16 noisy pixels, darker where the label is water, with holes in image and label."""
    rng = np.random.default_rng(num_examples)
    examples = [make_example(number) for number in range(num_examples)]
    for example in examples:
        label = rng.integers(-1, 2, (4, 4)).repeat(4, 0).repeat(4, 1)
        example[contract.LABEL] = label.astype(np.int8)
        example[contract.S1] = (rng.normal(-10, 3, (16, 16, 2)) - 4 * (label == 1)[..., None]).astype(np.float32)
        example[contract.S1][:2] = np.nan
    return FakeRecords(examples)


def network(synchronized: bool) -> keras.Model:
    """Two convolutions with the package's batch norm between them.

    Xception-65 will not do: between two runs of it whose weights differ by 1e-7 from the start, the difference after
    five steps at learning rate 0.05 is as large as the movement.
    """
    image = keras.Input((None, None, 2))
    features = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(image)
    normed = fused_batch_norm.FusedBatchNormalization(momentum=0.9, synchronized=synchronized)(features)
    return keras.Model(image, keras.layers.Conv2D(2, 1)(keras.ops.tanh(normed)))


def make_trainer(strategy: tf.distribute.Strategy, model=network, learning_rate=0.05, **settings) -> trainer.Trainer:
    """A trainer of `model`, from the same weights each time."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        made = model(strategy.num_replicas_in_sync > 1)
        optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
    decay = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    settings = {"objective": objectives.supervised_objective, "regularizer": decay, "seed": 7} | settings
    return trainer.Trainer(strategy, made, optimizer, **settings)


def steps_on(
    batch: dict, strategy_name: str, num_steps: int = 1, **settings
) -> tuple[trainer.Trainer, np.ndarray, dict]:
    """Takes steps on the same batch each time; at a learning rate of 1 the first moves by minus the gradient.

    Returns:
        The trainer after the steps, its trainable weights before them, and what `Trainer.train_steps` returned: the
        metrics as floats, and with them ``bad_step``.
    """
    one = make_trainer(strategies.make_strategy(strategy_name), **{"learning_rate": 1.0} | settings)
    start = flat(one.model.trainable_variables)
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    iterator = iter(one.strategy.experimental_distribute_dataset(batches))
    metrics, bad_step = one.train_steps(iterator, tf.constant(num_steps, tf.int64))
    return one, start, {name: float(value) for name, value in metrics.items()} | {"bad_step": int(bad_step)}


def training_batches(strategy: tf.distribute.Strategy, **settings):
    """Batches of 13 examples in turn, cropped and flipped."""
    source = records(13)
    return strategies.distribute(
        strategy,
        lambda part: input_pipeline.training_dataset(
            [source], batch_size=BATCH_SIZE, crop_size_px=SIZE_PX, part=part, **settings
        ),
    )


def validation_batches(strategy: tf.distribute.Strategy, batch_size: int = 4):
    """The validation split, padded to full batches."""
    source = records(NUM_VALIDATION)
    return strategies.distribute(
        strategy,
        lambda part: input_pipeline.evaluation_dataset(
            source, "validation", inputs="s1", output_stride=16, batch_size=batch_size, features=(), part=part
        ),
    )


def flat(variables) -> np.ndarray:
    """All values of variables in one row."""
    return np.concatenate([np.ravel(variable.numpy()) for variable in variables])


def run(strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """Trains and validates: weights before and after, all variables after, loss, validation counts."""
    one = make_trainer(strategy)
    start = flat(one.model.trainable_variables)
    metrics, _ = one.train_steps(iter(training_batches(strategy)), tf.constant(NUM_STEPS, tf.int64))
    counts = sum(one.evaluate_step(batch) for batch in validation_batches(strategy))
    return {
        "start": start,
        "weights": flat(one.model.trainable_variables),
        "statistics": flat(one.model.non_trainable_variables),
        "loss": metrics[trainer.LOSS].numpy(),
        "counts": counts.numpy()[0],
        "chief": np.bool_(strategies.is_chief(strategy)),
        "wrote_model_dir": np.bool_(_writes_to_model_dir(strategy)),
    }


def assert_same_run(ours: dict, reference: dict) -> None:
    """The weights agree to 1e-4 of a movement that is as long as a third of them; the counts are the same."""
    moved = np.linalg.norm(reference["weights"] - reference["start"])
    assert moved > 0.3 * np.linalg.norm(reference["start"])
    np.testing.assert_array_equal(ours["start"], reference["start"])
    assert np.linalg.norm(ours["weights"] - reference["weights"]) < 1e-4 * moved
    np.testing.assert_allclose(ours["statistics"], reference["statistics"], rtol=1e-3, atol=1e-5)
    assert abs(ours["loss"] - reference["loss"]) < 1e-5
    tp, _, fn, tn = reference["counts"]
    assert min(tp, fn, tn) > 0
    np.testing.assert_array_equal(ours["counts"], reference["counts"])


def _writes_to_model_dir(strategy: tf.distribute.Strategy) -> bool:
    with tempfile.TemporaryDirectory() as model_dir, strategies.own_folder(strategy, model_dir) as folder:
        return folder == model_dir


if __name__ == "__main__":
    np.savez(sys.argv[1], **run(strategies.make_strategy("multi_worker")))
