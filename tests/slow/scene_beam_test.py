"""Scenes through Beam's DirectRunner: the maps and the failures of the local loop."""

import pytest
import scenes_test
import tiny_models

from flood_distill import predictor, scene_beam, scenes
from flood_distill.beam_settings import Beam
from flood_distill.errors import UserError

SIZES = {"window_px": 49, "overlap_px": 16}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny_models.write_model_dir(folder / "model")
    for name in ("a", "c"):
        scenes_test.write_scene(folder / f"{name}.tif", size=(50, 60))
    (folder / "b.tif").write_text("no raster")
    return folder


def test_direct_runner_gives_the_maps_and_failures_of_the_local_loop(world):
    pytest.importorskip("apache_beam")
    model = predictor.load_predictor(str(world / "model"))
    inputs = [str(world / f"{name}.tif") for name in ("a", "b", "missing", "c")]
    local = scenes.predict_scenes(model, inputs, world / "local", **SIZES)
    cluster = scene_beam.Cluster(str(world / "model"), Beam("DirectRunner"))
    spread = scenes.predict_scenes(model, inputs, world / "spread", predict_all=cluster, **SIZES)
    assert spread == local
    assert (local[0], len(local[1])) == (4, 2)
    names = sorted(path.name for path in (world / "local").iterdir())
    assert sorted(path.name for path in (world / "spread").iterdir()) == names
    for stem in ("a", "c"):
        scenes_test.same_maps(world / "local" / stem, world / "spread" / stem)
    assert scenes.predict_scenes(model, inputs[:1], world / "spread", predict_all=cluster, **SIZES) == (1, [])


def test_a_runner_that_is_not_known_is_one_clear_line(world):
    pytest.importorskip("apache_beam")
    model = predictor.load_predictor(str(world / "model"))
    cluster = scene_beam.Cluster(str(world / "model"), Beam("NoRunner"))
    with pytest.raises(UserError, match="--beam_runner=NoRunner"):
        scenes.predict_scenes(model, [str(world / "a.tif")], world / "no", predict_all=cluster, **SIZES)
