"""Writes the synthetic world in the layout of the real data.

    python -m data_prep.synthesize --output_dir=D

Sizes are gin values, such as --gin_param=synthesize.num_train=24.
"""

from absl import flags

from flood_distill import cli

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write the world to.", required=True)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace what is in the folder.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0 means one a core, at most 8. The result is the same.")
cli.define_gin_flags()
flags.adopt_module_key_flags(cli)


def main(_: list[str]) -> None:
    """Parses the configuration, writes the world, says where."""
    from data_prep.synthetic import build

    cli.parse_gin(flags.FLAGS.gin_file, flags.FLAGS.gin_param)
    path = build.synthesize(_OUTPUT_DIR.value, overwrite=_OVERWRITE.value, workers=_WORKERS.value)
    print(f"synthetic world: {path}")


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
