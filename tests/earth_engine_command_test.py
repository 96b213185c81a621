"""The command: flags, gin values, one line for an error."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import gin
import pytest

pytest.importorskip("ee")
pytest.importorskip("shapely")

import earth_engine_server as service  # noqa: E402

from data_prep.earth_engine_curation import ledger, settings  # noqa: E402
from flood_distill import cli  # noqa: E402
from flood_distill.errors import UserError  # noqa: E402

PROJECT = Path(__file__).resolve().parent.parent
pytest_plugins = ("earth_engine_fixtures",)
BOX = (90.0, 24.0, 90.5, 24.5)
EVENTS = """id,start,end,west,south,east,north
A,2020-07-14,2020-07-14,90.20,24.20,90.21,24.21
Nowhere,2020-07-14,2020-07-14,10,10,11,11
"""


@pytest.fixture(autouse=True)
def _clean_gin():
    yield
    gin.clear_config()


def test_shipped_numbers_are_those_of_the_paper():
    cli.parse_gin(["earth_engine.gin"], [])
    what, how = settings.external_dataset(), settings.earth_engine_traffic()
    assert (what.max_gap_hours, what.max_cloud_percent, what.cloud_over) == (12.0, 12.0, "image")  # section 2.2
    assert (how.num_parallel, how.requests_per_minute) == (40, 6000)  # Earth Engine's default quotas


@pytest.mark.parametrize(
    ("binding", "reason"),
    [
        ("external_dataset.cloud_over = 'pixel'", "cloud_over = 'pixel': must be 'image' or 'tile'"),
        ("external_dataset.ndwi_threshold = 300", "ndwi_threshold = 300: must be in"),
        ("earth_engine_traffic.num_parallel = 41", "num_parallel = 41: must be 1 to 40"),
        ("earth_engine_traffic.requests_per_minute = 60000", "must be 1 to 6000"),
    ],
)
def test_settings_beyond_reason_or_quota_are_named(binding, reason):
    cli.parse_gin(["earth_engine.gin"], [binding])
    read = settings.external_dataset if binding.startswith("external_dataset") else settings.earth_engine_traffic
    with pytest.raises(UserError, match=reason):
        read()


def _command(server, tmp_path, *flags):
    # Nothing outside of this machine is asked: the library's list of deprecated collections is behind https.
    environment = os.environ | {
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "127.0.0.1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [
        sys.executable,
        "-m",
        "data_prep.earth_engine",
        f"--url={server.url}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    return subprocess.run([*command, *flags], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def _flags(server, tmp_path, private_key):
    path = tmp_path / "events.csv"
    path.write_text(EVENTS)
    key = service.write_key(tmp_path / "key.json", server, private_key)
    return f"--events={path}", f"--service_account_key={key}", "--project=my-project"


def test_command_makes_tiles_with_the_numbers_that_gin_gives(tmp_path, server, private_key):
    server.scenes = [service.s1_scene("a", "2020-07-14T12:00", BOX), service.s2_scene("b", "2020-07-14T12:00", BOX)]
    binding = "--gin_param=external_dataset.ndwi_threshold=0.9"
    made = _command(server, tmp_path, *_flags(server, tmp_path, private_key), binding)
    assert made.returncode == 0, made.stderr
    assert "Nowhere: no pair" in made.stdout
    with open(tmp_path / "out" / ledger.METADATA, newline="") as file:
        rows = list(csv.DictReader(file))
    assert f"made {len(rows)} tiles now" in made.stdout
    assert len(list((tmp_path / "out").rglob("*.tif"))) == 3 * len(rows) > 0
    assert {row["water_share"] for row in rows} == {"0.0"}  # NDWI is (900 - 300) / 1200, not above 0.9
    settings_line = json.loads((tmp_path / "out" / ledger.MANIFEST).read_text().splitlines()[0])
    assert settings_line["settings"]["ndwi_threshold"] == 0.9


def test_dry_run_lists_and_writes_nothing(tmp_path, server, private_key):
    server.scenes = [service.s1_scene("a", "2020-07-14T12:00", BOX), service.s2_scene("b", "2020-07-14T12:00", BOX)]
    listed = _command(server, tmp_path, *_flags(server, tmp_path, private_key), "--dry_run")
    assert listed.returncode == 0, listed.stderr
    assert "Nowhere: no pair" in listed.stdout
    assert "  S1A000001A 2020-07-14T12:00:00Z + GS2A_1_000001 2020-07-14T12:00:00Z: +0.0 h" in listed.stdout
    assert not (tmp_path / "out").exists()
    assert server.bodies("computePixels") == []


def test_command_fails_in_one_line(tmp_path, server):
    failed = _command(server, tmp_path, f"--events={tmp_path / 'nowhere.csv'}")
    assert failed.returncode == 1
    reason = "cannot be read (No such file or directory)"
    assert failed.stderr.strip() == f"error: --events={tmp_path / 'nowhere.csv'}: {reason}"
