"""The binaries evaluate, export and predict as a person calls them: help, one clear line for an error, exit codes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import tiny_models


def call(module, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", f"flood_distill.{module}", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def error_line(result):
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result.stderr
    return line


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("evaluate", ["model", "data_dir", "dataset", "split", "output_dir", "gin_file", "gin_param"]),
        ("export", ["model_dir", "export_dir"]),
        (
            "predict",
            ["model", "input", "output_dir", "reference_water", "bands", "output_grid", "[no]overwrite", "gin_param"],
        ),
    ],
)
def test_help_says_what_it_does_and_names_the_flags(module, flags):
    result = call(module, "--help")
    assert f"python -m flood_distill.{module} --" in result.stdout
    assert all(f"--{flag}:" in result.stdout for flag in flags)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("evaluate", ["--model=otsu", "--data_dir=D", "--output_dir=O"], "data_prep.convert"),
        ("export", ["--model_dir=M", "--export_dir=X"], "M: no model.json"),
        ("predict", ["--model=M", "--input=a.tif", "--output_dir=O"], "--model=M: neither"),
    ],
)
def test_what_is_missing_is_one_line(module, arguments, message, tmp_path):
    arguments = [argument.replace("=D", f"={tmp_path}/D").replace("=O", f"={tmp_path}/O") for argument in arguments]
    result = call(module, *arguments)
    assert result.returncode == 1
    assert message in error_line(result)
    assert list(tmp_path.iterdir()) == []


def test_predict_goes_on_after_a_bad_scene_and_fails_at_the_end(tmp_path):
    tiny_models.write_model_dir(tmp_path / "model")
    with rasterio.open(
        tmp_path / "good.tif",
        "w",
        driver="GTiff",
        width=60,
        height=50,
        count=2,
        dtype="float32",
        crs="EPSG:32630",
        transform=rasterio.Affine(16, 0, 640000, 0, -16, 4224000),
    ) as dataset:
        dataset.write(np.random.default_rng(0).uniform(-25, -5, (2, 50, 60)).astype(np.float32))
    result = call(
        "predict",
        f"--model={tmp_path}/model",
        f"--input={tmp_path}/missing.tif",
        f"--input={tmp_path}/good.tif",
        f"--output_dir={tmp_path}/out",
        "--gin_param=predict_scenes.window_px=49",
        "--gin_param=predict_scenes.overlap_px=16",
    )
    assert result.returncode == 1
    assert "missing.tif: missing" in error_line(result)
    assert "1 of 2 scenes" in result.stdout
    with rasterio.open(tmp_path / "out/good_water.tif") as dataset:
        assert set(np.unique(dataset.read(1))) <= {0, 1}
    assert '"window_px": 49' in (tmp_path / "out/good.json").read_text()
