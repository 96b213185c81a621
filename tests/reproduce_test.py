"""The main job through its real command, with a row that trains nothing (all rows: tests/slow)."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
TINY_WORLD = (
    "synthesize.num_train=1",
    "synthesize.num_validation=1",
    "synthesize.num_test=2",
    "synthesize.num_bolivia=0",
    "synthesize.num_weak=1",
    "synthesize.num_external=1",
    "synthesize.scene_width_px=120",
    "synthesize.scene_height_px=80",
    "synthesize.contact_sheet=False",
)


def _run(work, *bindings):
    command = [sys.executable, "-m", "flood_distill.reproduce", f"--work_dir={work}"]
    command += [f"--gin_param={binding}" for binding in bindings]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_from_the_synthetic_world_to_a_report(tmp_path):
    settings = ("reproduce.rows=('otsu',)", f"reproduce.world={TINY_WORLD}", "reproduce.num_parallel=2")
    done = _run(tmp_path / "work", *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    report = (tmp_path / "work" / "report.md").read_text()
    metrics = json.loads((tmp_path / "work" / "evaluation" / "otsu" / "test" / "metrics.json").read_text())
    row = next(line for line in report.splitlines() if line.startswith("| Otsu"))
    assert f"**{100 * metrics['iou_pooled']:.2f}**" in row
    assert "Synthetic data" in report
    assert sorted(path.name for path in (tmp_path / "work" / "results").iterdir()) == ["otsu.json", "plan.json"]


def test_unknown_binding_stops_with_the_name(tmp_path):
    bad = _run(tmp_path / "bad", "reproduce.sedes=(1,)")
    assert bad.returncode == 1
    assert "sedes" in bad.stderr
    assert not (tmp_path / "bad" / "world").exists()
