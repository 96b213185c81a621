r"""The main job: data -> every row of Table 1 -> SavedModel, flood map and report; resumable stage by stage.

python -m flood_distill.reproduce --work_dir=W                         the demo, on the synthetic world
python -m flood_distill.reproduce --gin_file=paper.gin --data_dir=R --work_dir=W      the paper, on converted real data

Each stage is one command, run once; its log is in W/logs. A run that was stopped goes on with the same command. The
result is W/report.md.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import gin
from absl import flags

from data_prep.synthetic import layout
from data_prep.synthetic import world as physics
from flood_distill import cli, contract, files, object_store, stages, table1, work_dir
from flood_distill.errors import UserError
from flood_distill.stages import Stage

# Table rows in the order of training: the student waits for the teacher, so both of two lanes are always busy.
_TRAINING_ORDER = (table1.TEACHER, table1.HAND, table1.STUDENT, table1.WEAK, table1.WEAK_EXTERNAL)

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("data_dir", "", "Folder of converted datasets; without it the synthetic world is made and used.")
flags.DEFINE_string("work_dir", None, "Folder for everything that is made.", required=True)
FLAGS = flags.FLAGS


@gin.configurable
def reproduce(
    work: Path,
    data_dir: str,
    gin_files: Sequence[str],
    gin_params: Sequence[str],
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    num_parallel: int = 1,
    threads: int = 0,
    world: Sequence[str] = (),
) -> Path:
    """Runs every stage that is not done yet and returns the report's path.

    Args:
        work: folder for everything that is made.
        data_dir: folder of the converted datasets; empty for the synthetic world.
        gin_files: files that override each experiment's own.
        gin_params: bindings that override the files.
        seeds: one run of every trained row for each (the paper: 5 runs); student i has teacher i.
        num_parallel: stages that run at once; more than one only on a CPU.
        threads: CPU threads of each training; 1 makes it bit-reproducible; 0 leaves it to TensorFlow.
        world: bindings for data_prep.synthesize, such as ``synthesize.num_train=24``.

    Raises:
        UserError: if a stage fails or the folder holds a run with other settings.
    """
    work.mkdir(parents=True, exist_ok=True)
    overrides = [f"--gin_file={_installed_name(name)}" for name in gin_files]
    overrides += [f"--gin_param={param}" for param in gin_params]
    overrides += [f"--threads={threads}"] if threads else []
    settings = _digest(gin_files, gin_params)

    todo = [] if data_dir else _data_stages(work, world)
    data_dir = data_dir or str(work / work_dir.DATA)
    for seed in seeds:
        todo += _training_stages(work, data_dir, seed, overrides, settings, synthetic=bool(todo))
    todo += _evaluation_stages(work, data_dir, seeds, [stage.name for stage in todo])
    todo += _output_stages(work, seeds[0], synthetic=todo[0].name == "synthesize")
    _write_plan(work, data_dir, seeds, todo)
    report = Stage(
        "report", ("flood_distill.report", f"--work_dir={work}"), tuple(stage.name for stage in todo), settings
    )
    stages.run_stages([*todo, report], work, num_parallel)
    return work / work_dir.REPORT_MD


def _data_stages(work: Path, world: Sequence[str]) -> list[Stage]:
    world_dir, data = work / work_dir.WORLD, work / work_dir.DATA
    bindings = [f"--gin_param={binding}" for binding in world]
    made = [Stage("synthesize", ("data_prep.synthesize", *bindings, f"--output_dir={world_dir}"))]
    for dataset in (contract.HAND, contract.EXTERNAL, contract.WEAK):
        folder = world_dir / dataset.split("/")[0]
        command = ("data_prep.convert", f"--dataset={dataset}", f"--input_dir={folder}", f"--data_dir={data}")
        made.append(Stage(_convert_name(dataset), command, ("synthesize",)))
    return made


def _convert_name(dataset: str) -> str:
    return "convert_" + dataset.replace("/", "_")


def _training_stages(
    work: Path, data_dir: str, seed: int, overrides: list[str], settings: str, synthetic: bool
) -> list[Stage]:
    conversions = tuple(map(_convert_name, (contract.HAND, contract.EXTERNAL, contract.WEAK))) if synthetic else ()
    made = []
    for row in _TRAINING_ORDER:
        name = work_dir.run_name(row, seed)
        command = [
            "flood_distill.train",
            f"--gin_file={row.key}.gin",
            *overrides,
            f"--gin_param=train.seed={seed}",
            f"--data_dir={data_dir}",
            f"--model_dir={work_dir.model_dir(work, row, seed)}",
        ]
        needs = conversions
        if row.distilled:
            teacher = work_dir.run_name(table1.TEACHER, seed)
            command.append(f"--teacher_model_dir={work_dir.model_dir(work, table1.TEACHER, seed)}")
            needs += (f"train_{teacher}",)
        made.append(Stage(f"train_{name}", tuple(command), needs, settings))
    return made


def _evaluation_stages(work: Path, data_dir: str, seeds: Sequence[int], earlier: Sequence[str]) -> list[Stage]:
    made = []
    for row in table1.ROWS:
        for seed in seeds if row.trained else seeds[:1]:
            name = work_dir.run_name(row, seed)
            needs = tuple(stage for stage in earlier if stage == f"train_{name}" or stage.startswith("convert_"))
            for split in work_dir.SPLITS:
                command = (
                    "flood_distill.evaluate",
                    f"--model={work_dir.model_dir(work, row, seed) if row.trained else row.key}",
                    f"--data_dir={data_dir}",
                    f"--split={split}",
                    f"--output_dir={work_dir.evaluation_dir(work, row, seed, split)}",
                )
                made.append(Stage(f"evaluate_{name}_{split}", command, needs))
    return made


def _output_stages(work: Path, seed: int, synthetic: bool) -> list[Stage]:
    student = work_dir.run_name(table1.STUDENT, seed)
    exported = work_dir.export_dir(work, table1.STUDENT, seed)
    command = (
        "flood_distill.export",
        f"--model_dir={work_dir.model_dir(work, table1.STUDENT, seed)}",
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


def _write_plan(work: Path, data_dir: str, seeds: Sequence[int], todo: Sequence[Stage]) -> None:
    commands = {stage.name: stage.shell_command for stage in todo}
    plan = {"data_dir": data_dir, "seeds": list(seeds), "commands": commands}
    files.write_text(work / work_dir.PLAN_JSON, json.dumps(plan, indent=2) + "\n")


def _installed_name(name: str) -> str:
    """Makes a path absolute, so that the command holds in any folder; the name of an installed file stays short."""
    return str(Path(name).resolve()) if os.path.isfile(name) else name


def _digest(gin_files: Sequence[str], gin_params: Sequence[str]) -> str:
    """Digest of all configuration that the results depend on: experiments, overrides and bindings."""
    names = ["base.gin", *(f"{row.key}.gin" for row in table1.ROWS if row.trained), *gin_files]
    texts = [Path(cli.find_gin_file(name)).read_text() for name in names]
    return hashlib.sha256("\n".join([*texts, *gin_params]).encode()).hexdigest()


def main(_: list[str]) -> None:
    """Parses the configuration and runs the stages."""
    gin_files = FLAGS.gin_file or ["demo.gin"]
    cli.parse_gin(gin_files, FLAGS.gin_param, skip_unknown=True)
    object_store.local_only("--work_dir", FLAGS.work_dir)
    if FLAGS.data_dir and not object_store.is_remote(FLAGS.data_dir) and not os.path.isdir(FLAGS.data_dir):
        raise UserError(f"--data_dir={FLAGS.data_dir}: no such folder; convert datasets into it first")
    report = reproduce(Path(FLAGS.work_dir), FLAGS.data_dir, gin_files, FLAGS.gin_param)
    print(f"report: {report}")


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
