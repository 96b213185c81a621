"""What a job would take, and how its stages hang together, without running any."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from flood_distill import cli, contract, ombria_table, plan, rows, settings, table1
from flood_distill import job as job_lib
from flood_distill.errors import UserError

TINY = ("network.width_multiplier=0.05", "network.num_middle_units=1", "train.crop_size_px=33")


def _job(tmp_path, gin_file, *params):
    cli.parse_gin([gin_file], params, skip_unknown=True)
    return job_lib.make_job(tmp_path / "w", "R", tmp_path / "results", [gin_file], params)


def test_table1_is_the_papers_protocol(tmp_path):
    job = _job(tmp_path, "table1.gin")
    stages = {stage.name: stage for stage in job.stages}
    trained = [row for row in table1.ALL_ROWS if row.trained]
    assert {name for name in stages if name.startswith("sweep_")} == {f"sweep_{row.key}" for row in trained}
    trainings = {name for name in stages if name.startswith("train_")}
    assert trainings == {f"train_{row.key}_seed{seed}" for row in trained for seed in range(5)}
    student = stages["train_student_distill_seed3"]
    assert set(student.needs) == {"sweep_student_distill", "train_teacher_seed3"}
    assert f"--gin_file={tmp_path}/w/sweeps/student_distill/best.gin" in student.command
    assert f"--teacher_model_dir={tmp_path}/w/models/teacher_seed3" in student.command
    assert "train_teacher_seed0" in stages["sweep_student_distill"].needs
    evaluated = [name for name in stages if name.startswith("evaluate_") and name.endswith("_test")]
    assert len(evaluated) == 5 * len(trained) + 1  # each run once on the test split, and Otsu


def test_every_stage_comes_after_what_it_needs(tmp_path):
    for gin_file in ("table1.gin", "ombria_benchmark.gin"):
        seen = set()
        for stage in _job(tmp_path, gin_file).stages:
            assert set(stage.needs) <= seen, stage.name
            assert stage.name not in seen
            seen.add(stage.name)


def test_a_number_of_labels_is_trained_whole_before_the_next_and_a_seed_before_the_next(tmp_path):
    trained = [stage.name for stage in _job(tmp_path, "ombria_benchmark.gin").stages if stage.name.startswith("train_")]
    assert trained[:3] == [f"train_after_{name}_40_seed0" for name in ("teacher", "hand", "distilled")]
    seeds = [int(name[-1]) for name in trained]
    assert seeds == sorted(seeds) == [0] * 24 + [1] * 16 + [2] * 16  # 5 and 3 settings of 4, weak and all of 2 datasets


def test_printed_commands_name_what_they_come_after(tmp_path):
    job = _job(tmp_path, "table1.gin")
    lines = job_lib.commands(job, tmp_path / "w", ["--gin_file=table1.gin"])
    assert len(lines) == len(job.stages)
    (line,) = [line for line in lines if "--stage=train_student_distill_seed1 " in line]
    command, _, after = line.partition("  # after: ")
    assert command == "python -m flood_distill.reproduce --gin_file=table1.gin --stage=train_student_distill_seed1"
    assert set(after.split()) == {"sweep_student_distill", "train_teacher_seed1"}


def test_operations_of_a_training():
    """1 x 1 kernels would be counted alike: the cost of images follows from steps, batch, passes and the teacher."""
    tiny = [*TINY, "train.num_steps=5", "train.batch_size=4"]
    hand = plan.cost(settings.Training(("supervised_hand.gin",), tiny))
    teacher = plan.cost(settings.Training(("teacher.gin",), tiny))
    student = plan.cost(settings.Training(("student_distill.gin",), tiny))
    assert hand.images == teacher.images == student.images == 20
    # Forward and twice that backward; a distilled student's step runs the teacher forward too.
    assert student.operations - hand.operations == teacher.operations // 3
    # A teacher's first convolution, 3 x 3 at stride 2, sees 4 bands more: 17 x 17 positions and its number of filters.
    filters = (teacher.operations - hand.operations) / (20 * 3 * 2 * 17 * 17 * 3 * 3 * 4)
    assert filters == int(filters)
    assert (teacher.disk_bytes - hand.disk_bytes) / (4 * 7) == 3 * 3 * 4 * filters
    assert plan.cost(settings.Training(("teacher.gin",), tiny, in_grid=True)).images == 16 * 20  # appendix B's grid


def test_plan_lists_trainings_and_their_hours(tmp_path):
    job = _job(tmp_path, "demo.gin", *TINY, "train.num_steps=5", "reproduce.seeds=(0,)")
    text = plan.as_text(job.stages, job.trainings, tmp_path / "w", teraflops=1e-6)
    (line,) = [line for line in text.splitlines() if line.startswith("train_teacher_seed0")]
    cost = plan.cost(job.trainings["train_teacher_seed0"])
    images, operations, _, hours = (float(cell.replace(",", "")) for cell in line.split()[1:])
    assert images == cost.images == 5 * 16
    assert math.isclose(hours, operations / 1e6 / 3600, rel_tol=0.01)
    assert "all that is left" in text


def test_ombria_rows_share_what_does_not_depend_on_labels():
    table = ombria_table.chosen([(contract.OMBRIA_AFTER, 20, (0,)), (contract.OMBRIA_AFTER, 40, (0, 1, 2))])
    by_key = {row.key: row for row in table}
    assert len(by_key) == len(table) == 2 + 2 * 4 + 1
    assert by_key["after_distilled_40"].teacher == "after_teacher_40"
    assert by_key["after_teacher_20"].seeds == (0,)
    assert by_key["after_all_labels"].seeds == by_key["after_weak"].seeds == (0, 1, 2)
    assert "train.chip_list='ombria_40'" in by_key["after_hand_40"].bindings
    assert by_key["after_hand_small_40"].bindings == (*by_key["after_hand_40"].bindings, *ombria_table.SMALL_CROPS)
    assert not [one for one in by_key["after_distilled_40"].bindings if "chip_list" in one]  # taught on every pair
    assert rows.comparable(by_key["after_hand_40"], by_key["after_all_labels"])
    assert not rows.comparable(by_key["after_hand_40"], by_key["after_teacher_20"])


def test_wrong_settings_are_named(tmp_path):
    for params, message in (
        (["reproduce.rows=('otsu', 'teecher')"], "'teecher' is not one of otsu"),
        (["reproduce.table='table2'"], "'table2': not one of table1, ombria"),
        (["reproduce.table='ombria'"], "label_runs is empty"),
    ):
        with pytest.raises(UserError, match=message):
            _job(tmp_path, "demo.gin", *params)


def test_digest_sees_includes_and_no_comments(tmp_path):
    inner, outer = tmp_path / "inner.gin", tmp_path / "outer.gin"
    inner.write_text("a.b = 1  # one\n")
    outer.write_text(f"# text\ninclude '{inner}'\n")
    before = settings.digest([str(outer)], ["c.d=2"])
    inner.write_text("# another comment\na.b = 1\n")
    assert settings.digest([str(outer)], ["c.d=2"]) == before
    inner.write_text("a.b = 2\n")
    assert settings.digest([str(outer)], ["c.d=2"]) != before
    assert settings.digest([str(outer)], ["c.d=3"]) != settings.digest([str(outer)], ["c.d=2"])
    assert Path(cli.find_gin_file("base.gin")).is_file()


def test_the_command_prints_the_plan_and_starts_nothing(tmp_path):
    flags = ("--gin_file=demo.gin", f"--work_dir={tmp_path / 'w'}", "--plan", "--gin_param=train.num_steps=5")
    command = [sys.executable, "-m", "flood_distill.reproduce", *flags]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "train_student_distill_seed0" in printed
    assert not (tmp_path / "w").exists()
