r"""Shows flood maps in a web browser: pan, zoom, opacity of radar, probability and mask, areas.

python -m flood_distill.view --dir=O

serves the results of flood_distill.predict in O on http://127.0.0.1:8080 until Ctrl-C. Needs the extra view; nothing is
fetched from another host.
"""

from pathlib import Path

from absl import flags

from flood_distill import cli

flags.DEFINE_string("dir", None, "Folder of the maps: the --output_dir of flood_distill.predict.", required=True)
flags.DEFINE_integer("port", 8080, "Port on this machine.", lower_bound=1, upper_bound=65535)
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Serves."""
    from flood_distill import map_server

    map_server.serve(Path(FLAGS.dir), FLAGS.port)


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
