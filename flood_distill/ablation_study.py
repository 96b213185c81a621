"""Many variants of teacher and student, trained and scored alike: the runs, their commands and the table."""

import dataclasses
import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import gin

from flood_distill import cli, contract, evaluation, files, stages
from flood_distill.errors import UserError
from flood_distill.stages import Stage
from flood_distill.training import experiment  # noqa: F401  (what the variants bind)

TABLE_MD = "ablation.md"
SPLITS = (contract.VALIDATION_SPLIT, contract.TEST_SPLIT)
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_COLUMNS = (  # title, split, key of metrics.json
    ("validation IoU", contract.VALIDATION_SPLIT, "iou_pooled"),
    ("test IoU", contract.TEST_SPLIT, "iou_pooled"),
    ("test IoU per chip", contract.TEST_SPLIT, "iou_per_chip"),
    ("test precision", contract.TEST_SPLIT, "precision"),
    ("test recall", contract.TEST_SPLIT, "recall"),
)
_NONE = "–"

Variants = Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: unique; also that of its folders, before the seed.
        gin_file: the experiment.
        bindings: what differs from it.
        teacher: name of the teacher's variant; empty for a teacher.
    """

    name: str
    gin_file: str
    bindings: tuple[str, ...]
    teacher: str = ""


@gin.configurable("ablation")
def run(
    work: Path,
    data_dir: str,
    *,
    teachers: Variants = gin.REQUIRED,
    students: Variants = gin.REQUIRED,
    teacher_gin_file: str = "teacher.gin",
    student_gin_file: str = "student_distill.gin",
    gin_files: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    num_parallel: int = 1,
    threads: int = 0,
) -> Path:
    """Trains and scores every variant that is not done yet, and returns the table's path.

    The first teacher teaches all students, each further teacher one student, as the first student is set. Everything
    runs for the first seed before the second; a variant may be added later, what is done stays.

    Args:
        work: folder for everything that is made.
        data_dir: folder of the converted datasets.
        teachers: bindings by name; the first is what the others are compared with.
        students: the same.
        teacher_gin_file: experiment of the teachers.
        student_gin_file: experiment of the students.
        gin_files: files that override both experiments.
        seeds: one run of every variant for each; student i has teacher i.
        num_parallel: stages that run at once; more than one only on a CPU.
        threads: CPU threads of each training; 0 leaves it to TensorFlow.

    Raises:
        UserError: for a name or binding that makes no sense, before anything runs; if a stage fails, or the folder
            holds a run with other settings.
    """
    for name in (*teachers, *students):
        if not _NAME.fullmatch(name):
            raise UserError(f"ablation: a variant is named {name!r}; names are letters, digits, '_', '.' and '-'")
    variants = plan(teachers, students, teacher_gin_file, student_gin_file)
    settings = {variant.name: _digest(variant, gin_files) for variant in variants}
    todo = [
        stage
        for seed in seeds
        for variant in variants
        for stage in _stages(work, data_dir, variant, seed, gin_files, threads, settings[variant.name])
    ]
    work.mkdir(parents=True, exist_ok=True)
    try:
        stages.run_stages(todo, work, num_parallel)
    finally:
        files.write_text(work / TABLE_MD, as_markdown(work, variants, seeds))
    return work / TABLE_MD


def plan(teachers: Variants, students: Variants, teacher_gin_file: str, student_gin_file: str) -> list[Variant]:
    """Returns all rows in the order of training.

    Raises:
        UserError: if there is no teacher or no student.
    """
    if not teachers or not students:
        raise UserError("ablation.teachers and ablation.students: name at least one each, with its bindings")
    first_teacher, first_student = next(iter(teachers)), next(iter(students))
    made = [Variant(f"teacher_{name}", teacher_gin_file, tuple(some)) for name, some in teachers.items()]
    for name, bindings in students.items():
        made.append(Variant(f"student_{name}", student_gin_file, tuple(bindings), f"teacher_{first_teacher}"))
    for name in list(teachers)[1:]:
        bindings = tuple(students[first_student])
        made.append(Variant(f"student_of_{name}", student_gin_file, bindings, f"teacher_{name}"))
    return made


def model_dir(work: Path, name: str, seed: int) -> Path:
    """model_dir of a variant's run."""
    return work / "models" / f"{name}_seed{seed}"


def evaluation_dir(work: Path, name: str, seed: int, split: str) -> Path:
    """Output of the evaluation of a variant's run."""
    return work / "evaluation" / f"{name}_seed{seed}" / split


def as_markdown(work: Path, variants: Sequence[Variant], seeds: Sequence[int]) -> str:
    """Returns the tables of stage 1 and stage 2 from the evaluations that are there."""
    results = {variant.name: _results(work, variant.name, seeds) for variant in variants}
    scored = [run for runs in results.values() for run in runs.values()]
    lines = [f"Seeds: {', '.join(map(str, seeds))}. {sum(map(_whole, scored))} of {len(scored)} runs scored.", ""]
    if any(metrics["source"] == contract.SOURCE_SYNTHETIC for run in scored for metrics in run.values()):
        lines += ["**Synthetic data: these numbers say nothing about accuracy on real floods.**", ""]
    for title, rows in (
        ("Stage 1: teachers", [variant for variant in variants if not variant.teacher]),
        ("Stage 2: students", [variant for variant in variants if variant.teacher]),
    ):
        lines += [f"### {title}", "", *_table(rows, results), ""]
    lines += [
        "Water IoU, precision and recall in percent, pooled over all scored pixels but where it says per chip; mean ± "
        "standard deviation over the seeds. The last column is the mean ± standard deviation of the difference of the "
        "pooled test IoU from the first row's run of the same seed: less than that spread tells nothing.",
    ]
    return "\n".join(lines) + "\n"


def _stages(
    work: Path, data_dir: str, variant: Variant, seed: int, gin_files: Sequence[str], threads: int, settings: str
) -> list[Stage]:
    """Returns the training of a run and its evaluations."""
    name = f"{variant.name}_seed{seed}"
    command = [
        "flood_distill.train",
        *(f"--gin_file={_portable(gin_file)}" for gin_file in (variant.gin_file, *gin_files)),
        *(f"--gin_param={binding}" for binding in (f"train.name='{variant.name}'", *variant.bindings)),
        f"--gin_param=train.seed={seed}",
        f"--data_dir={data_dir}",
        f"--model_dir={model_dir(work, variant.name, seed)}",
    ]
    command += [f"--threads={threads}"] if threads else []
    needs = ()
    if variant.teacher:
        command.append(f"--teacher_model_dir={model_dir(work, variant.teacher, seed)}")
        needs = (f"train_{variant.teacher}_seed{seed}",)
    made = [Stage(f"train_{name}", tuple(command), needs, settings)]
    for split in SPLITS:
        command = (
            "flood_distill.evaluate",
            f"--model={model_dir(work, variant.name, seed)}",
            f"--data_dir={data_dir}",
            f"--split={split}",
            f"--output_dir={evaluation_dir(work, variant.name, seed, split)}",
        )
        made.append(Stage(f"evaluate_{name}_{split}", command, (f"train_{name}",), settings))
    return made


def _digest(variant: Variant, gin_files: Sequence[str]) -> str:
    """Digest of a run's whole configuration.

    Raises:
        UserError: for a file that is not there, an unknown name or a value that does not parse.
    """
    try:
        cli.parse_gin([variant.gin_file, *gin_files], variant.bindings)
    except UserError as error:
        raise UserError(f"ablation: {variant.name}: {error}") from error
    return hashlib.sha256(gin.config_str().encode()).hexdigest()


def _portable(gin_file: str) -> str:
    """Makes a path absolute, so that the command holds in any folder; the name of an installed file stays short."""
    return str(Path(gin_file).resolve()) if Path(gin_file).is_file() else gin_file


def _results(work: Path, name: str, seeds: Sequence[int]) -> dict[int, dict[str, dict]]:
    """Returns the metrics of each seed and split that have been scored."""
    results = {}
    for seed in seeds:
        paths = {split: evaluation_dir(work, name, seed, split) / evaluation.METRICS_JSON for split in SPLITS}
        results[seed] = {split: json.loads(path.read_text()) for split, path in paths.items() if path.exists()}
    return results


def _whole(scored: Mapping[str, dict]) -> bool:
    return len(scored) == len(SPLITS)


def _table(variants: Sequence[Variant], results: Mapping[str, dict]) -> list[str]:
    titles = ("variant", "what differs", *(title for title, _, _ in _COLUMNS), "test IoU, difference")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    reference = results[variants[0].name]
    for variant in variants:
        runs = results[variant.name]
        cells = [variant.name, _differences(variant, variants[0])]
        cells += [_cell(_values(runs, split, key).values()) for _, split, key in _COLUMNS]
        cells.append(_NONE if variant is variants[0] else _cell(_gains(runs, reference), "+.2f"))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _differences(variant: Variant, first: Variant) -> str:
    own = [f"`{binding}`" for binding in variant.bindings if binding not in first.bindings]
    own += [f"taught by {variant.teacher}"] * (variant.teacher != first.teacher)
    return ", ".join(own) or _NONE


def _values(runs: Mapping[int, dict], split: str, key: str) -> dict[int, float]:
    """Returns a score in percent by seed, where it is there."""
    scores = {seed: scored[split][key] for seed, scored in runs.items() if split in scored}
    return {seed: 100 * score for seed, score in scores.items() if score is not None}


def _gains(runs: Mapping[int, dict], reference: Mapping[int, dict]) -> list[float]:
    ours, theirs = (_values(some, contract.TEST_SPLIT, "iou_pooled") for some in (runs, reference))
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def _cell(values: Sequence[float], spec: str = ".2f") -> str:
    values = list(values)
    if not values:
        return _NONE
    mean = format(statistics.mean(values), spec)
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"
