r"""Makes flood maps of Sentinel-1 scenes of any size.

python -m flood_distill.predict --model=X --input=SCENE.tif --input='scenes/*.tif' --output_dir=O
python -m flood_distill.predict --model=X --input=VV.tif,VH.tif --input_unit=linear --output_dir=O
python -m flood_distill.predict --input=SCENE.tif --output_dir=O        # with the ready-made student

For each scene: <stem>_water.tif, <stem>_probability.tif, <stem>_vv.tif, <stem>_water.geojson, <stem>_preview.png,
<stem>_stac.json and <stem>.json; with --reference_water also <stem>_flood.tif and <stem>_flood.geojson. Scenes that are
done are skipped; those that fail are listed at the end, and the exit code is 1.
"""

import sys

from absl import flags

from flood_distill import cli, contract, ready_student
from flood_distill.beam_settings import Beam
from flood_distill.errors import UserError

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)  # so that --help shows them
flags.DEFINE_string(
    "model",
    "",
    "An exported SavedModel or a model_dir, of a student or a baseline; by default the ready-made student, which was "
    "trained on a synthetic world.",
)
flags.DEFINE_multi_string(
    "input",
    None,
    "GeoTIFF with VV and VH, a pattern such as 'scenes/*.tif', or the files of VV and of VH with a comma between them; "
    "repeatable.",
    required=True,
)
flags.DEFINE_string("output_dir", None, "Folder for the maps.", required=True)
flags.DEFINE_list("bands", [], "What the file's bands are, in order, such as VV,VH; by default it says so itself.")
flags.DEFINE_enum("input_unit", "db", ["db", "linear"], "Unit of the backscatter: decibels, or linear power.")
flags.DEFINE_float(
    "resolution_m", contract.PIXEL_SIZE_M, "Pixel size of the prediction in metres; networks are trained on 16."
)
flags.DEFINE_string("crs", None, "Map projection, in metres; by default the UTM zone of the scene's centre.")
flags.DEFINE_enum("output_grid", "model", ["model", "input"], "Grid of the maps: the network's, or the scene's own.")
flags.DEFINE_string(
    "reference_water",
    "",
    "Raster of water that is always there (1 water, 0 not): adds maps of the flood apart from it.",
)
flags.DEFINE_bool("overwrite", False, "Make scenes again that are already done.")
flags.DEFINE_enum(
    "engine",
    contract.TENSORFLOW,
    contract.ENGINES,
    "What runs an exported SavedModel; openvino is the faster one on most CPUs (extra openvino).",
)
flags.DEFINE_string(
    "beam_runner", None, "Spread the scenes by Apache Beam: DirectRunner, FlinkRunner, ... (extra beam; docs/beam.md)."
)
flags.DEFINE_multi_string("beam_options", [], "Option of that pipeline, NAME=VALUE. Repeatable.")
FLAGS = flags.FLAGS


def main(_: list[str]) -> int:
    """Loads the model, predicts every scene, lists those that failed."""
    # Here, not above: TensorFlow takes seconds to import, and configurables come before their bindings.
    from flood_distill import predictor, scenes

    cli.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
    options = scenes.Options(
        reference_water=FLAGS.reference_water,
        bands=tuple(FLAGS.bands),
        input_unit=FLAGS.input_unit,
        resolution_m=FLAGS.resolution_m,
        crs=FLAGS.crs,
        output_grid=FLAGS.output_grid,
    )
    if not FLAGS.model:
        print(ready_student.figures())
    model_path = FLAGS.model or ready_student.folder()
    model = predictor.load_predictor(model_path, engine=FLAGS.engine)
    num_scenes, failures = scenes.predict_scenes(
        model, FLAGS.input, FLAGS.output_dir, options, overwrite=FLAGS.overwrite, predict_all=_cluster(model_path)
    )
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"{num_scenes - len(failures)} of {num_scenes} scenes are in {FLAGS.output_dir}")
    return 1 if failures else 0


def _cluster(model_path: str):
    """Returns what spreads the scenes, None without a runner."""
    if FLAGS.beam_runner is None:
        if FLAGS.beam_options:
            raise UserError("--beam_options: needs --beam_runner, such as --beam_runner=DirectRunner")
        return None
    from flood_distill import scene_beam

    return scene_beam.Cluster(model_path, Beam(FLAGS.beam_runner, tuple(FLAGS.beam_options)), FLAGS.engine)


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
