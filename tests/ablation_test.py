"""The ablation's plan and table: who teaches whom, arithmetic by hand, what is done stays done."""

import json
from pathlib import Path

import gin
import pytest

from flood_distill import ablation_study, cli, stages
from flood_distill.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
TEACHERS = {"paper": [], "s2_alone": ["train.inputs = 's2'"]}
STUDENTS = {"paper": [], "hot": ["distillation_objective.temperature = 2.0"]}


@pytest.fixture(autouse=True)
def _plain_gin():
    yield
    gin.clear_config()


@pytest.fixture
def started(monkeypatch):
    """The stages that would run, by name."""
    kept = {}
    monkeypatch.setattr(
        stages, "run_stages", lambda todo, work, parallel: kept.update({stage.name: stage for stage in todo})
    )
    return kept


def _run(work, **settings):
    settings = {"teachers": TEACHERS, "students": STUDENTS, "gin_files": ["demo.gin"]} | settings
    return ablation_study.run(work, "R", **settings)


def test_first_teacher_teaches_all_students_and_each_further_one_a_student_of_its_own(started, tmp_path):
    _run(tmp_path, seeds=(0, 1))
    trainings = [name for name in started if name.startswith("train_")]
    names = ["teacher_paper", "teacher_s2_alone", "student_paper", "student_hot", "student_of_s2_alone"]
    assert trainings == [f"train_{name}_seed{seed}" for seed in (0, 1) for name in names]
    hot, optical = (started[f"train_student_{name}_seed1"] for name in ("hot", "of_s2_alone"))
    assert hot.needs == ("train_teacher_paper_seed1",)
    assert f"--teacher_model_dir={tmp_path}/models/teacher_paper_seed1" in hot.command
    assert "--gin_param=distillation_objective.temperature = 2.0" in hot.command
    assert "--gin_param=train.seed=1" in hot.command
    assert optical.needs == ("train_teacher_s2_alone_seed1",)
    assert not any("temperature" in word for word in optical.command)
    for split in ("validation", "test"):
        stage = started[f"evaluate_student_hot_seed1_{split}"]
        assert stage.needs == ("train_student_hot_seed1",)
        assert f"--split={split}" in stage.command


def test_a_further_variant_leaves_the_stages_that_are_done_as_they_were(started, tmp_path):
    _run(tmp_path)
    before = dict(started)
    _run(tmp_path, students=STUDENTS | {"cold": ["distillation_objective.temperature = 0.5"]}, seeds=(0, 1))
    assert {name: started[name] for name in before} == before
    assert "train_student_cold_seed0" in started
    started.clear()
    _run(tmp_path, gin_files=[])
    assert all(started[name].settings != stage.settings for name, stage in before.items())


def test_the_shipped_ablation_is_sound_and_its_page_names_every_variant(started, tmp_path):
    cli.parse_gin(["ablation.gin"], [])
    ablation_study.run(tmp_path, "R")
    seed_0 = [name[len("train_") : -len("_seed0")] for name in started if name.endswith("_seed0") and "train_" in name]
    assert len(seed_0) == 27
    settings = {started[f"train_{name}_seed0"].settings for name in seed_0 if not name.startswith("student_of")}
    assert len(settings) == 22  # every variant has a configuration of its own
    page = (ROOT / "docs/ablations.md").read_text()
    assert not [name for name in seed_0 if not name.startswith("student_of") and f"`{name}`" not in page]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"students": {"paper": ["distillation_objective.temprature = 2.0"]}}, "ablation: student_paper: .*temprature"),
        ({"teachers": {"a b": []}}, "a variant is named 'a b'"),
        ({"teachers": {}}, "name at least one each"),
        ({"gin_files": ["nowhere.gin"]}, "nowhere.gin: no such file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(started, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        _run(tmp_path / "work", **settings)
    assert not started
    assert not (tmp_path / "work").exists()


def _score(work, name, seed, split, iou):
    folder = ablation_study.evaluation_dir(work, name, seed, split)
    folder.mkdir(parents=True)
    scores = {"iou_pooled": iou, "iou_per_chip": None, "precision": 0.9, "recall": 0.8, "source": "synthetic"}
    (folder / "metrics.json").write_text(json.dumps(scores))


def test_table_arithmetic(started, tmp_path):
    for name, ious in (("student_paper", (0.70, 0.74)), ("student_hot", (0.71, 0.77))):
        for seed, iou in enumerate(ious):
            _score(tmp_path, name, seed, "test", iou)
    _score(tmp_path, "student_hot", 0, "validation", 0.6)
    text = Path(_run(tmp_path, seeds=(0, 1))).read_text()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("| student") or line.startswith("| teacher")
    }
    # Of 70 and 74: mean 72, standard deviation 4 / sqrt 2.
    assert rows["student_paper"] == ["–", "–", "72.00 ± 2.83", "–", "90.00 ± 0.00", "80.00 ± 0.00", "–"]
    # Gains of 1 and 3: mean 2, standard deviation 2 / sqrt 2.
    hot = ["`distillation_objective.temperature = 2.0`", "60.00", "74.00 ± 4.24", "–", "90.00 ± 0.00", "80.00 ± 0.00"]
    assert rows["student_hot"] == [*hot, "+2.00 ± 1.41"]
    assert rows["student_of_s2_alone"] == ["taught by teacher_s2_alone", *["–"] * 6]
    assert rows["teacher_s2_alone"][0] == "`train.inputs = 's2'`"
    assert "1 of 10 runs scored" in text
    assert "Synthetic data" in text


def test_the_table_is_written_though_a_stage_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise UserError("stage train_x failed")

    monkeypatch.setattr(stages, "run_stages", fail)
    _score(tmp_path, "student_paper", 0, "test", 0.5)
    with pytest.raises(UserError, match="train_x"):
        _run(tmp_path)
    assert "50.00" in (tmp_path / "ablation.md").read_text()
