"""The main job through its real command, all rows of Table 1, with a shipped configuration made tiny by bindings."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.synthetic import world
from flood_distill import report_page, table1

PROJECT = Path(__file__).resolve().parents[2]
TINY_WORLD = (
    "synthesize.num_train=3",
    "synthesize.num_validation=1",
    "synthesize.num_test=2",
    "synthesize.num_bolivia=1",
    "synthesize.num_weak=2",
    "synthesize.num_external=2",
    "synthesize.scene_width_px=240",
    "synthesize.scene_height_px=160",
    "synthesize.contact_sheet=False",
)
TINY = (
    f"reproduce.world={TINY_WORLD}",
    "network.width_multiplier=0.0625",
    "network.num_middle_units=1",
    "train.num_steps=2",
    "train.batch_size=2",
    "train.crop_size_px=33",
    "train.report_every=1",
    "monitoring.num_maps=0",
)


def _command(work, *more):
    bindings = [f"--gin_param={binding}" for binding in (*TINY, *more)]
    return [sys.executable, "-m", "flood_distill.reproduce", *bindings, f"--work_dir={work}"]


def _run(work, *more, flags=()):
    return subprocess.run([*_command(work, *more), *flags], cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run that was killed once on its way and then went on to the end."""
    folder = tmp_path_factory.mktemp("reproduce") / "work"
    process = subprocess.Popen(_command(folder), cwd=PROJECT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(folder.glob("stages/convert_*.json")):
        assert process.poll() is None, "ended before its first conversion"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    done = _run(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_report_has_every_row_beside_the_paper(work):
    report = (work / "report.md").read_text()
    for row in table1.ROWS:
        lines = [line for line in report.splitlines() if line.startswith(f"| {row.title} |")]
        assert len(lines) == 2  # the main table and the one of boundary, flood and calibration
        cells = [cell.strip() for cell in lines[0].split("|")[2:-1]]
        assert cells[1] == ("1" if row.trained else "-")
        assert cells[0].startswith(f"{row.paper_iou:.2f}")
        metrics = json.loads(next((work / "evaluation").glob(f"{row.key}*/test/metrics.json")).read_text())
        ours = "n/a" if metrics["iou_pooled"] is None else f"{100 * metrics['iou_pooled']:.2f}"
        assert cells[2] == f"**{ours}**"
    assert "Synthetic data" in report
    assert "Cross modal distillation - Hand labeled supervised" in report
    assert f"`{hashlib.sha256(Path(world.__file__).read_bytes()).hexdigest()}`" in report
    for picture in (
        "report_panels.png",
        "report_curves.png",
        "report_reliability.png",
        "maps/Mozambique_scene_S1_preview.png",
    ):
        assert picture in report
        assert (work / picture).read_bytes().startswith(b"\x89PNG")


def test_every_row_scores_the_same_pixels(work):
    metrics = [json.loads(path.read_text()) for path in (work / "evaluation").glob("*/test/metrics.json")]
    assert len(metrics) == len(table1.ROWS)
    assert len({(one["num_chips"], one["tp"] + one["fn"], one["fp"] + one["tn"]) for one in metrics}) == 1


def test_done_stages_are_not_run_again(work):
    before = {path: path.stat().st_mtime_ns for path in (work / "stages").iterdir()}
    again = _run(work)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in (work / "stages").iterdir()} == before


def test_tables_come_from_the_kept_results_alone(work, tmp_path):
    kept = tmp_path / "results"
    shutil.copytree(work / "results", kept)
    names = sorted(path.name for path in kept.iterdir())
    assert names == sorted(["plan.json", *(f"{name}.json" for row in table1.ROWS for name in _first_run(row))])
    assert not [path for path in kept.iterdir() if str(work) in path.read_text()]  # no place on this machine
    made = report_page.write_report(kept, tmp_path / "out").read_text()
    tables = made[made.index("## Table 1") : made.index("## Calibration")]
    assert tables in (work / "report.md").read_text()


def _first_run(row):
    return [f"{row.key}_seed0"] if row.trained else [row.key]


def test_commands_for_a_scheduler_are_those_of_what_is_left(work, tmp_path):
    """On another machine that sees the results, only the report is left: no run is repeated."""
    assert _run(work, flags=["--print_commands"]).stdout == ""
    printed = _run(
        tmp_path / "new", flags=["--print_commands", f"--results_dir={work / 'results'}"]
    ).stdout.splitlines()
    left = [line.partition("--stage=")[2].split()[0] for line in printed]
    assert left == ["synthesize", *(f"convert_{name}" for name in ("sen1floods11_hand", "external_events")), *left[3:]]
    assert left[3:] == ["convert_sen1floods11_weak", "report"]
    assert not (tmp_path / "new").exists()


def test_other_settings_need_another_folder(work):
    other = _run(work, "train.num_steps=3")
    assert other.returncode == 1
    assert "other settings" in other.stderr
    assert "Traceback" not in other.stderr
