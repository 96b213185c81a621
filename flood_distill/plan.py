"""What a job takes before it starts: operations, images, disk and hours of every stage that trains."""

import contextlib
import dataclasses
import functools
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import gin
import numpy as np

from flood_distill import cli, contract, input_pipeline, stages
from flood_distill.models import operations
from flood_distill.settings import Training
from flood_distill.stages import Stage
from flood_distill.training import experiment, network

with contextlib.suppress(ImportError):  # without the extra `sweep` its grid is unknown to gin
    importlib.import_module("flood_distill.sweeping.run")

_PASSES = 3  # a training step: forward, and backward to activations and to weights
_WEIGHT_BYTES = 4  # float32
_COPIES = 7  # three checkpoints of weights and momenta, and the best weights
_PAPER_GRID = 4 * 4  # appendix B: learning rates x weight decays


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a stage takes.

    Attributes:
        images: crops that its steps see.
        operations: floating-point operations of its steps; a multiply-add is two.
        disk_bytes: of its checkpoints.
    """

    images: int = 0
    operations: int = 0
    disk_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(one + two for one, two in pairs))


def as_text(todo: Sequence[Stage], trainings: Mapping[str, Training], work: Path, teraflops: float) -> str:
    """Returns the plan as a table, one line a stage that trains, and a sum.

    Args:
        todo: all stages.
        trainings: what the stages that train are configured by.
        work: the work_dir; stages that are done there are marked and not summed.
        teraflops: throughput, in 1e12 operations a second.
    """
    costs = {stage.name: cost(trainings[stage.name]) for stage in todo if stage.name in trainings}
    done = {stage.name for stage in todo if stages.marker(stage.name, work).exists()}
    left = sum((one for name, one in costs.items() if name not in done), Cost())
    width = max(map(len, ["all that is left", *costs]))
    header = f"{'stage':{width}}  {'images':>13}  {'operations':>10}  {'disk, GB':>8}  {'hours':>9}"
    lines = [_line(name, one, width, teraflops) + "  done" * (name in done) for name, one in costs.items()]
    others = [stage.name for stage in todo if stage.name not in costs and stage.name not in done]
    return "\n".join(
        [
            f"At {teraflops:g} TFLOP/s, one stage at a time. Training steps alone: reading, validation and evaluation "
            "come on top.",
            "",
            header,
            *lines,
            "-" * len(header),
            _line("all that is left", left, width, teraflops),
            "",
            f"and {len(others)} stages of seconds to minutes: data, evaluation, export, report.",
        ]
    )


def _line(name: str, one: Cost, width: int, teraflops: float) -> str:
    hours = one.operations / (teraflops * 1e12) / 3600
    return f"{name:{width}}  {one.images:13,}  {one.operations:10.3g}  {one.disk_bytes / 1e9:8.3g}  {hours:9.3g}"


def cost(training: Training) -> Cost:
    """Returns what a training takes, from its configuration alone: no data is read.

    Raises:
        UserError: for a configuration that does not parse.
    """
    cli.parse_gin(training.gin_files, training.gin_params, skip_unknown=True)
    defaults = {"task": input_pipeline.SUPERVISED, "inputs": contract.INPUT_S1}
    given = defaults | gin.get_bindings(experiment.train)
    imagery = contract.imagery(given["validation_dataset"])
    forward, num_weights = _network_cost(imagery, given["inputs"], given["crop_size_px"])
    per_image = _PASSES * forward
    if given["task"] == input_pipeline.DISTILLATION:
        per_image += _network_cost(imagery, contract.INPUT_S1_S2, given["crop_size_px"])[0]
    runs = _grid_size() if training.in_grid else 1
    images = given["num_steps"] * given["batch_size"] * runs
    return Cost(images, images * per_image, num_weights * _WEIGHT_BYTES * _COPIES * runs)


def _grid_size() -> int:
    """The points of sweep.grid; appendix B's where the configuration has none that can be read."""
    try:
        grid = gin.query_parameter("sweep.grid")
    except ValueError:
        return _PAPER_GRID
    return int(np.prod([len(values) for values in grid.values()]))


def _network_cost(imagery: contract.Imagery, inputs: str, crop_size_px: int) -> tuple[int, int]:
    arguments = network.network(len(imagery.bands(inputs)))
    return _counted(json.dumps(arguments), crop_size_px)


@functools.lru_cache
def _counted(arguments: str, size_px: int) -> tuple[int, int]:
    """Returns the operations of a forward pass of one image (convolutions only) and the number of weights."""
    model = network.build({**json.loads(arguments), "input_size": size_px})
    return 2 * sum(operations.multiply_adds(model).values()), model.count_params()
