"""What `reproduce` does, put together: the stages of every run, from data to the report."""

import dataclasses
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import gin

from data_prep.synthetic import layout
from data_prep.synthetic import world as physics
from flood_distill import (
    contract,
    files,
    ombria_table,
    results,
    rows,
    settings,
    stages,
    table1,
    work_dir,
)
from flood_distill.errors import UserError
from flood_distill.rows import Row
from flood_distill.stages import Stage

TABLE1, OMBRIA = "table1", "ombria"
_DISTILLED = rows.DISTILLED  # `rows` is a binding of `make_job` too
_SYNTHETIC_DATASETS = (contract.HAND, contract.EXTERNAL, contract.WEAK)


@dataclasses.dataclass(frozen=True)
class Job:
    """All that there is to do.

    Attributes:
        rows: of the table.
        stages: in an order in which every stage comes after what it needs.
        trainings: by the name of a stage that trains, what it trains and how often (a sweep: as its grid says).
        num_parallel: stages that run at once.
        plan: what `report` needs to know.
    """

    rows: Sequence[Row]
    stages: Sequence[Stage]
    trainings: dict[str, settings.Training]
    num_parallel: int
    plan: dict


@gin.configurable("reproduce")
def make_job(
    work: Path,
    data_dir: str,
    results_dir: Path,
    gin_files: Sequence[str],
    gin_params: Sequence[str],
    *,
    table: str = TABLE1,
    rows: Sequence[str] = (),
    label_runs: Sequence[ombria_table.LabelRun] = (),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    sweep: bool = False,
    num_parallel: int = 1,
    threads: int = 0,
    world: Sequence[str] = (),
) -> Job:
    """Puts together what there is to do; starts and writes nothing.

    Args:
        work: folder for everything that is made.
        data_dir: folder of the converted datasets; empty for the synthetic world.
        results_dir: folder of the finished runs' small files.
        gin_files: files that override each experiment's own.
        gin_params: bindings that override the files.
        table: ``table1`` or ``ombria``.
        rows: keys of the rows of Table 1; empty for the paper's.
        label_runs: for ``ombria``: (dataset, number of hand labels, seeds) of each setting.
        seeds: for ``table1``: one run of every trained row for each (the paper: 5 runs); student i has teacher i.
        sweep: choose learning rate and weight decay by `flood_distill.sweep`, once for each row, with its first seed.
        num_parallel: stages that run at once; more than one only on a CPU.
        threads: CPU threads of each training; 1 makes it bit-reproducible; 0 leaves it to TensorFlow.
        world: bindings for data_prep.synthesize, such as ``synthesize.num_train=24``.

    Raises:
        UserError: for settings that do not fit together.
    """
    if table not in (TABLE1, OMBRIA):
        raise UserError(f"reproduce.table={table!r}: not one of {TABLE1}, {OMBRIA}")
    if table == OMBRIA and not data_dir:
        raise UserError("reproduce.table='ombria' needs --data_dir with the converted datasets (docs/ombria.md)")
    chosen = ombria_table.chosen(label_runs) if table == OMBRIA else table1.chosen(rows, seeds)
    made = [] if data_dir else _data_stages(work, world)
    synthetic = bool(made)
    data_dir = data_dir or str(work / work_dir.DATA)
    builder = _Stages(work, data_dir, results_dir, gin_files, gin_params, threads, sweep, [one.name for one in made])
    made += builder.of_rows(chosen)
    students = [row for row in chosen if row.role == _DISTILLED and row.dataset == contract.HAND]
    made += _output_stages(work, students[0], synthetic, [one.name for one in made]) if students else []
    plan = {"data_dir": data_dir, "rows": [dataclasses.asdict(row) for row in chosen]}
    plan |= {"world": _world()} if synthetic else {}
    command = ("flood_distill.report", f"--work_dir={work}", f"--results_dir={results_dir}")
    made.append(Stage("report", command, tuple(one.name for one in made), _digest(plan)))
    plan["commands"] = {stage.name: stage.shell_command for stage in made[:-1]}
    return Job(chosen, made, builder.trainings, num_parallel, plan)


def run(job: Job, work: Path, results_dir: Path, stage: str = "") -> None:
    """Runs every stage that is not done yet, or one of them.

    Raises:
        UserError: if a stage fails or the folder holds a run with other settings.
    """
    for folder in (work, results_dir):
        files.write_text(folder / work_dir.PLAN_JSON, json.dumps(_portable(job.plan, folder != work), indent=1) + "\n")
    if stage:
        stages.run_one(job.stages, stage, work)
    else:
        stages.run_stages(job.stages, work, job.num_parallel)


def _portable(plan: dict, kept: bool) -> dict:
    """Leaves out of the plan that is kept in a project what holds on this machine only."""
    return {name: value for name, value in plan.items() if name not in ("data_dir", "commands")} if kept else plan


def _digest(plan: dict) -> str:
    return settings.sha256(json.dumps(plan).encode())


def _world() -> dict[str, str]:
    """The file that the synthetic world is frozen in, and its hash."""
    path = Path(physics.__file__)
    return {"file": f"data_prep/synthetic/{path.name}", "sha256": settings.sha256(path.read_bytes())}


def _data_stages(work: Path, world: Sequence[str]) -> list[Stage]:
    world_dir, data = work / work_dir.WORLD, work / work_dir.DATA
    bindings = [f"--gin_param={binding}" for binding in world]
    made = [Stage("synthesize", ("data_prep.synthesize", *bindings, f"--output_dir={world_dir}"))]
    for dataset in _SYNTHETIC_DATASETS:
        folder = world_dir / dataset.split("/")[0]
        command = ("data_prep.convert", f"--dataset={dataset}", f"--input_dir={folder}", f"--data_dir={data}")
        made.append(Stage("convert_" + dataset.replace("/", "_"), command, ("synthesize",)))
    return made


class _Stages:
    """Makes the stages of rows: the sweep of each, then of every run training, evaluations and the kept result."""

    def __init__(
        self,
        work: Path,
        data_dir: str,
        results_dir: Path,
        gin_files: Sequence[str],
        gin_params: Sequence[str],
        threads: int,
        sweep: bool,
        data_stages: Sequence[str],
    ):
        self._work = work
        self._data_dir = data_dir
        self._results_dir = results_dir
        self._gin_files = [installed_name(name) for name in gin_files]
        self._gin_params = list(gin_params)
        self._threads = threads
        self._sweep = sweep
        self._data_stages = tuple(data_stages)
        self._by_key: dict[str, Row] = {}
        self.trainings: dict[str, settings.Training] = {}

    def of_rows(self, chosen: Sequence[Row]) -> list[Stage]:
        """Returns the stages of all runs that have no kept result yet, and of the teachers that these need."""
        self._by_key = {row.key: row for row in chosen}
        pending = [(row, seed) for row in _training_order(chosen) for seed in row.seeds if not self._kept(row, seed)]
        teachers = {(self._by_key[row.teacher], seed) for row, seed in pending if row.teacher}
        if self._sweep:
            firsts = {row for row, _ in pending} | {row for row, _ in teachers}
            teachers |= {(self._by_key[row.teacher], row.seeds[0]) for row in firsts if row.teacher}
        runs = [(row, seed) for row in _training_order(chosen) for seed in row.seeds]
        runs = [run for run in runs if run in pending or run in teachers]
        swept = dict.fromkeys(row for row, _ in runs if row.trained) if self._sweep else {}
        made = []
        for row, seed in runs:
            if row in swept and seed == row.seeds[0]:
                made.append(self._sweep_stage(row))
            made += self._run_stages(row, seed, (row, seed) in pending)
        return sorted(made, key=lambda stage: _seed_of(stage.name))

    def _kept(self, row: Row, seed: int) -> bool:
        """Whether a run made elsewhere has left its result; one made here is told by its stages' markers."""
        name = row.run_name(seed)
        made_here = stages.marker(f"keep_{name}", self._work).exists()
        return not made_here and results.is_kept(self._results_dir, name, self._digest(row))

    def _digest(self, row: Row) -> str:
        names = [row.gin_file, *self._gin_files] if row.trained else []
        sweep = ["sweep"] * self._sweep
        teacher = [self._digest(self._by_key[row.teacher])] if row.teacher else []
        return settings.digest(names, [*row.bindings, *self._gin_params, *sweep, *teacher]) if row.trained else ""

    def _sweep_stage(self, row: Row) -> Stage:
        seed = row.seeds[0]
        bindings = [*row.bindings, *self._gin_params, f"train.seed={seed}"]
        command = [
            "flood_distill.sweep",
            *(f"--gin_file={name}" for name in (row.gin_file, *self._gin_files)),
            *(f"--gin_param={binding}" for binding in bindings),
            *([f"--train_flag=--threads={self._threads}"] if self._threads else []),
            f"--data_dir={self._data_dir}",
            f"--sweep_dir={work_dir.sweep_dir(self._work, row.key)}",
        ]
        stage = self._training_stage(f"sweep_{row.key}", command, row, seed, self._data_stages)
        self.trainings[stage.name] = settings.Training((row.gin_file, *self._gin_files), tuple(bindings), in_grid=True)
        return stage

    def _run_stages(self, row: Row, seed: int, scored: bool) -> list[Stage]:
        made = [self._train_stage(row, seed)] if row.trained else []
        if scored:
            needs = tuple(stage.name for stage in made) or self._data_stages
            evaluations = [self._evaluate_stage(row, seed, split, needs) for split in row.splits]
            made += [*evaluations, self._keep_stage(row, seed, tuple(stage.name for stage in evaluations))]
        return made

    def _train_stage(self, row: Row, seed: int) -> Stage:
        names, bindings, needs = [row.gin_file, *self._gin_files], [*row.bindings, *self._gin_params], self._data_stages
        if self._sweep:  # its best.gin holds files, bindings and the best point
            names, bindings = [str(work_dir.sweep_dir(self._work, row.key) / work_dir.BEST_GIN)], []
            needs += (f"sweep_{row.key}",)
        name = row.run_name(seed)
        command = [
            "flood_distill.train",
            *(f"--gin_file={one}" for one in names),
            *(f"--gin_param={binding}" for binding in (*bindings, f"train.seed={seed}")),
            *([f"--threads={self._threads}"] if self._threads else []),
            f"--data_dir={self._data_dir}",
            f"--model_dir={work_dir.model_dir(self._work, name)}",
        ]
        stage = self._training_stage(f"train_{name}", command, row, seed, needs)
        configured = (row.gin_file, *self._gin_files), (*row.bindings, *self._gin_params)
        self.trainings[stage.name] = settings.Training(*configured)
        return stage

    def _training_stage(self, name: str, command: list[str], row: Row, seed: int, needs: tuple[str, ...]) -> Stage:
        if row.teacher:
            teacher = self._by_key[row.teacher].run_name(seed)
            command = [*command, f"--teacher_model_dir={work_dir.model_dir(self._work, teacher)}"]
            needs += (f"train_{teacher}",)
        return Stage(name, tuple(command), needs, self._digest(row))

    def _evaluate_stage(self, row: Row, seed: int, split: str, needs: tuple[str, ...]) -> Stage:
        name = row.run_name(seed)
        command = (
            "flood_distill.evaluate",
            f"--model={work_dir.model_dir(self._work, name) if row.trained else row.role}",
            f"--data_dir={self._data_dir}",
            f"--dataset={row.dataset}",
            f"--split={split}",
            f"--output_dir={work_dir.evaluation_dir(self._work, name, split)}",
        )
        return Stage(f"evaluate_{name}_{split}", command, needs, self._digest(row))

    def _keep_stage(self, row: Row, seed: int, needs: tuple[str, ...]) -> Stage:
        command = (
            "flood_distill.keep_result",
            f"--work_dir={self._work}",
            f"--run={row.run_name(seed)}",
            f"--results_dir={self._results_dir}",
        )
        return Stage(f"keep_{row.run_name(seed)}", command, needs, self._digest(row))


def _training_order(chosen: Sequence[Row]) -> list[Row]:
    """Number of labels by number of labels, those with the most seeds first, so that a teacher's student comes soon.

    Untrained rows last: they take seconds.
    """
    order = {role: place for place, role in enumerate(rows.TRAINING_ORDER)}

    def place(row: Row) -> tuple:
        setting = row.num_labels is None, -len(row.seeds), row.dataset, row.num_labels or 0
        return (not row.trained, *setting, order.get(row.role, len(order)))

    return sorted(chosen, key=place)


def _seed_of(stage_name: str) -> int:
    """All rows of the first seed come before the second: half a job is a whole table."""
    _, _, seed = stage_name.partition("_seed")
    digits = seed.partition("_")[0]
    return int(digits) if digits.isdigit() else 0


def _output_stages(work: Path, row: Row, synthetic: bool, earlier: Sequence[str]) -> list[Stage]:
    """The student of the first seed as a SavedModel, and on the synthetic world the map of a whole scene."""
    student = row.run_name(row.seeds[0])
    if f"train_{student}" not in earlier:
        return []
    exported = work_dir.export_dir(work, student)
    command = (
        "flood_distill.export",
        f"--model_dir={work_dir.model_dir(work, student)}",
        f"--export_dir={exported}",
    )
    made = [Stage(f"export_{student}", command, (f"train_{student}",))]
    if synthetic:
        scene = f"{physics.SCENE_EVENT.name}_scene_S1.tif"
        command = (
            "flood_distill.predict",
            f"--model={exported}",
            f"--input={work / work_dir.WORLD / layout.SCENES / scene}",
            f"--output_dir={work / work_dir.MAPS}",
        )
        made.append(Stage("predict_scene", command, (made[0].name,)))
    return made


def installed_name(name: str) -> str:
    """Makes a path absolute, so that the command holds in any folder; the name of an installed file stays short."""
    return str(Path(name).resolve()) if os.path.isfile(name) else name


def commands(job: Job, work: Path, own_flags: Sequence[str]) -> list[str]:
    """Returns one line for every stage that is not done: the command that runs it, and what it comes after."""
    left = [stage for stage in job.stages if not stages.marker(stage.name, work).exists()]
    names = {stage.name for stage in left}
    lines = []
    for stage in left:
        command = shlex.join(["python", "-m", "flood_distill.reproduce", *own_flags, f"--stage={stage.name}"])
        after = " ".join(need for need in stage.needs if need in names)
        lines.append(f"{command}  # after: {after}" if after else command)
    return lines
