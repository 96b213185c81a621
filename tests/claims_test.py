"""Claims: one holder at a time, overtaken when it is dead or silent, never twice."""

import json
import os
import subprocess
import sys

from flood_distill import claims


def _write_claim(folder, name, number, place, pid, age_s=0.0):
    path = folder / f"{name}.claim.{number}"
    path.write_text(json.dumps({"place": place, "host": "elsewhere", "pid": pid}))
    changed = path.stat().st_mtime - age_s
    os.utime(path, (changed, changed))
    return path


def test_one_holder_at_a_time(tmp_path):
    claim = claims.take(tmp_path, "a")
    assert claims.take(tmp_path, "a") is None
    assert claims.holder(tmp_path, "a").startswith(f"process {os.getpid()} on ")
    assert claims.take(tmp_path, "b")
    claim.release()
    assert claims.holder(tmp_path, "a") == ""
    assert claims.take(tmp_path, "a")


def test_dead_process_of_this_machine_is_overtaken_at_once(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = _write_claim(tmp_path, "a", 1, claims._place(), ended.pid)
    assert claims.take(tmp_path, "a")
    assert not old.exists()
    assert claims.take(tmp_path, "a") is None


def test_silent_process_of_another_machine_is_overtaken_by_one(tmp_path):
    _write_claim(tmp_path, "a", 7, "another machine", 1, age_s=claims.STALE_S - 30)
    assert claims.take(tmp_path, "a") is None
    _write_claim(tmp_path, "a", 7, "another machine", 1, age_s=claims.STALE_S + 30)
    assert claims.take(tmp_path, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.claim.8"]
    assert claims.take(tmp_path, "a") is None


def test_heartbeat_keeps_a_claim_and_tells_of_its_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.0)
    claim = claims.take(tmp_path, "a")
    path = tmp_path / "a.claim.1"
    os.utime(path, (0, 0))
    assert claim.beat()
    assert path.stat().st_mtime > 1e9
    path.unlink()  # overtaken, or removed by hand
    assert not claim.beat()
