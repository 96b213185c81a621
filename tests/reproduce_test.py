"""The main job's command; tests/slow/table1_training_test.py runs it to the end."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def test_unknown_binding_stops_with_the_name(tmp_path):
    command = [sys.executable, "-m", "flood_distill.reproduce", f"--work_dir={tmp_path / 'bad'}"]
    command += ["--gin_param=reproduce.sedes=(1,)"]
    bad = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "sedes" in bad.stderr
    assert "Traceback" not in bad.stderr
    assert not (tmp_path / "bad" / "world").exists()
