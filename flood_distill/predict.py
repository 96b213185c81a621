r"""Makes flood maps of Sentinel-1 scenes of any size.

python -m flood_distill.predict --model=X --input=SCENE.tif --input=OTHER.tif --output_dir=O

For each scene, VV and VH in dB: <stem>_water.tif, <stem>_probability.tif, <stem>_water.geojson, <stem>_preview.png and
<stem>.json; with --reference_water also <stem>_flood.tif. Scenes that are done are skipped.
"""

import sys

from absl import flags

from flood_distill import cli, contract

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)  # so that --help shows them
flags.DEFINE_string("model", None, "An exported SavedModel or a model_dir, of a student or a baseline.", required=True)
flags.DEFINE_multi_string("input", None, "GeoTIFF with VV and VH in dB; repeatable.", required=True)
flags.DEFINE_string("output_dir", None, "Folder for the maps.", required=True)
flags.DEFINE_string(
    "reference_water", "", "Raster of water that is always there (1 water, 0 not): adds <stem>_flood.tif."
)
flags.DEFINE_bool("overwrite", False, "Make scenes again that are already done.")
flags.DEFINE_enum(
    "engine",
    contract.TENSORFLOW,
    contract.ENGINES,
    "What runs an exported SavedModel; openvino is the faster one on most CPUs (extra openvino).",
)
FLAGS = flags.FLAGS


def main(_: list[str]) -> int:
    """Loads the model, predicts every scene, lists those that failed."""
    # Here, not above: TensorFlow takes seconds to import, and configurables come before their bindings.
    from flood_distill import predictor, scenes

    cli.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
    failures = scenes.predict_scenes(
        predictor.load_predictor(FLAGS.model, engine=FLAGS.engine),
        FLAGS.input,
        FLAGS.output_dir,
        reference_water=FLAGS.reference_water,
        overwrite=FLAGS.overwrite,
    )
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"{len(FLAGS.input) - len(failures)} of {len(FLAGS.input)} scenes are in {FLAGS.output_dir}")
    return 1 if failures else 0


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
