"""What the training loop costs beside the bare step, and what two processes gain: ``python -m benchmarks.loop_speed``.

Times, in turn, `--repeats` times: the bare traced step (forward, gradient, optimizer; no strategy, no checks) on one
batch in memory; the loop (distribution, guards, reports, progress bar) on the same batch; the loop on the input
pipeline. Then, where there are two cores, the loop in one process on one core, in two processes on a core each at the
same global batch, and in two that train apart: no more can be had of the machine. Sizes are the demo's. Prints two
tables and one line of JSON: images per second, and per second of processor time of the whole process, which other load
on the machine hardly changes.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags

from benchmarks import input_speed
from flood_distill import contract, input_pipeline
from flood_distill.training import (
    loop,
    network,
    objectives,
    observer,
    run_log,
    source_losses,
    strategies,
    trainer,
    training_csv,
)

_STEPS = flags.DEFINE_integer("steps", 10, "Steps of one timing.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timings of each case; their median counts.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Global batch.")
_CROP_SIZE_PX = flags.DEFINE_integer("crop_size_px", 97, "Side of an image.")
_WIDTH_MULTIPLIER = flags.DEFINE_float("width_multiplier", 0.25, "Factor on the network's channels; 1 is Xception-65.")
_NUM_MIDDLE_UNITS = flags.DEFINE_integer("num_middle_units", 4, "Middle-flow units; 16 is Xception-65.")
_SCALING = flags.DEFINE_boolean("scaling", True, "Time one and two processes too.")
_ONLY = flags.DEFINE_string("only", "", "For the processes that this one starts: the strategy to time.")

_BARE, _LOOP, _PIPELINE = "bare step", "loop, batch in memory", "loop, input pipeline"


@dataclasses.dataclass(frozen=True)
class Speed:
    """Images per second of wall clock and of processor time."""

    per_second: float
    per_cpu_second: float


def main(argv: list[str]) -> None:
    """Times, prints."""
    del argv
    if _ONLY.value:
        strategy = strategies.make_strategy(_ONLY.value)  # before anything else, where there are workers
        print(json.dumps(dataclasses.asdict(_measure({_LOOP: _loop_in_memory(strategy)})[_LOOP])))
        return
    result = {"benchmark": "loop_speed", "cases": _compare()}
    if _SCALING.value and len(os.sched_getaffinity(0)) > 1:
        result["scaling"] = _scale()
    print(json.dumps(result))


def _compare() -> dict[str, dict[str, float]]:
    strategy = strategies.make_strategy("cpu" if not tf.config.list_physical_devices("GPU") else "auto")
    with tempfile.TemporaryDirectory() as scratch:
        source = input_speed.make_records(Path(scratch))
        speeds = _measure(
            {
                _BARE: _bare(),
                _LOOP: _loop_in_memory(strategy),
                _PIPELINE: _loop(strategy, functools.partial(_from_pipeline, source)),
            }
        )
    print(f"{'':24} {'images/s':>10} {'of the bare step':>17} {'per CPU second':>15} {'of the bare step':>17}")
    for name, speed in speeds.items():
        share = speed.per_second / speeds[_BARE].per_second
        cpu_share = speed.per_cpu_second / speeds[_BARE].per_cpu_second
        print(f"{name:24} {speed.per_second:10.2f} {share:17.1%} {speed.per_cpu_second:15.2f} {cpu_share:17.1%}")
    wait = 1 - speeds[_PIPELINE].per_second / speeds[_LOOP].per_second
    print(f"input: {max(wait, 0.0):.1%} of the wall clock of a step")
    return {name: dataclasses.asdict(speed) for name, speed in speeds.items()}


def _scale() -> dict[str, float]:
    (one,), two, apart = _processes("cpu", 1), _processes("multi_worker", 2)[0], sum(_processes("cpu", 2))
    print(f"one process, one core: {one:.2f} images/s; two processes, two cores: {two:.2f}; {two / one:.2f} times")
    print(
        f"two processes that train apart: {apart:.2f} images/s together, {apart / one:.2f} times: the machine's limit"
    )
    return {"one_process": one, "two_processes": two, "two_apart": apart}


def _measure(cases: dict[str, Callable[[int], None]]) -> dict[str, Speed]:
    """Runs every case once to trace it, then all in turn; a case makes so many steps."""
    for run in cases.values():
        run(2)
    taken = {name: [] for name in cases}
    for _ in range(_REPEATS.value):
        for name, run in cases.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            run(_STEPS.value)
            taken[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    images = _STEPS.value * _BATCH_SIZE.value
    medians = {
        name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in taken.items()
    }
    return {name: Speed(images / seconds, images / cpu_seconds) for name, (seconds, cpu_seconds) in medians.items()}


def _bare() -> Callable[[int], None]:
    model, optimizer, decay = _made()
    batch = next(iter(_in_memory(input_pipeline.WHOLE)))

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            weighted, weight = objectives.supervised_objective(model(batch[contract.IMAGE], training=True), batch)
            loss = tf.reduce_sum(weighted) / tf.reduce_sum(weight) + decay(model)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            loss = step()
        loss.numpy()

    return run


def _loop_in_memory(strategy: tf.distribute.Strategy) -> Callable[[int], None]:
    return _loop(strategy, _in_memory)


def _loop(
    strategy: tf.distribute.Strategy, make_part: Callable[[input_pipeline.Part], tf.data.Dataset]
) -> Callable[[int], None]:
    with strategy.scope():
        model, optimizer, decay = _made(strategy.num_replicas_in_sync > 1)
        objective = source_losses.SourceLosses(objectives.supervised_objective, ["memory"])
    one = trainer.Trainer(strategy, model, optimizer, objective, decay, seed=0)
    batches = iter(strategies.distribute(strategy, make_part))

    def run(num_steps: int) -> None:
        step = int(one.step.numpy())
        cadence = loop.Cadence(
            step + num_steps, report_every=_STEPS.value, validate_every=10**9, checkpoint_every=10**9
        )
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(open(os.devnull, "w")):
            log = run_log.RunLog(folder, step)
            watch = observer.Observer(observer.Monitoring(0, 1, 0), log, model, None, None, folder, step)
            validate, examples = (lambda: {training_csv.VALIDATION_IOU: 0.0}), (lambda _: [])
            whole = loop.Loop(
                one, _NoState(), log, cadence, _BATCH_SIZE.value, validate, watch, objective, examples, folder, ""
            )
            whole.run(batches, step)

    return run


class _NoState:
    """Nothing is saved: what a checkpoint costs depends on how often there is one."""

    best = (0, 0.0)

    def save(self) -> None:
        """Would save."""

    def offer_best(self, iou: float, threshold: float) -> bool:
        """Would keep the weights."""
        return math.isnan(iou * threshold)


def _made(synchronized: bool = False) -> tuple[keras.Model, keras.optimizers.Optimizer, Callable]:
    arguments = network.network(
        2, width_multiplier=_WIDTH_MULTIPLIER.value, num_middle_units=_NUM_MIDDLE_UNITS.value, batch_norm_momentum=0.99
    )
    model = network.build(arguments, synchronized)
    decay = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    return model, optimizer, decay


def _in_memory(part: input_pipeline.Part) -> tf.data.Dataset:
    shape = (part.replica_batch_size(_BATCH_SIZE.value), _CROP_SIZE_PX.value, _CROP_SIZE_PX.value)
    random = tf.random.Generator.from_seed(part.index)
    batch = {
        contract.IMAGE: random.uniform((*shape, 2)),
        contract.LABEL: random.uniform(shape, 0, 2, tf.int32),
    }
    return tf.data.Dataset.from_tensors(batch).repeat()


def _from_pipeline(source, part: input_pipeline.Part) -> tf.data.Dataset:
    return input_pipeline.training_dataset(
        [source], batch_size=_BATCH_SIZE.value, crop_size_px=_CROP_SIZE_PX.value, part=part
    )


def _processes(strategy: str, count: int) -> list[float]:
    """Returns images per second of `count` processes on a core each: workers see those of the global batch."""
    workers = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    cores = sorted(os.sched_getaffinity(0))
    processes = [_start(strategy, workers, index, cores[index]) for index in range(count)]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a process of the scaling failed; see above")
    return [json.loads(output.splitlines()[-1])["per_second"] for output in outputs]


def _start(strategy: str, workers: list[str], index: int, core: int) -> subprocess.Popen:
    environment = dict(os.environ)
    if strategy == "multi_worker":
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loop_speed", f"--only={strategy}", *_given_flags()],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=functools.partial(os.sched_setaffinity, 0, {core}),
    )


def _given_flags() -> Iterator[str]:
    own = flags.FLAGS.flags_by_module_dict()[sys.argv[0]]
    return (f"--{flag.name}={flag.value}" for flag in own if flag.present and flag.name not in ("only", "scaling"))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    app.run(main)
