"""Curates the External Dataset of section 2.2 of the paper from Earth Engine.

    python -m data_prep.earth_engine --events=E.csv --output_dir=D --project=P [--dry_run]

E.csv lists floods (`data_prep/earth_engine_curation/example_events.csv` shows how); D becomes what
``python -m data_prep.convert --dataset=external/events --input_dir=D`` converts. Access, quotas and what is ours are in
docs/external_dataset.md; every number is a gin value of gin_configs/earth_engine.gin.
"""

import importlib.util
from pathlib import Path

from absl import flags

from flood_distill import cli
from flood_distill.errors import UserError

_CONFIG = "earth_engine.gin"
_EVENTS = flags.DEFINE_string("events", None, "CSV file of events: id, start, end, geometry or box.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of tiles; a run goes on where one ended.", required=True)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "List pairs and tiles; write nothing.")
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project registered for Earth Engine.")
_KEY = flags.DEFINE_string("service_account_key", None, "JSON key of a service account; default: your own account.")
_URL = flags.DEFINE_string("url", None, "Address of the service; default: Earth Engine's high-volume endpoint.")
_SEN1FLOODS11_DIR = flags.DEFINE_string(
    "sen1floods11_dir",
    None,
    "Tiles of Sen1Floods11, whose evaluation ground is left out; default: a folder sen1floods11 beside output_dir.",
)
cli.define_gin_flags()
flags.adopt_module_key_flags(cli)


def _require_extra() -> None:
    missing = [name for name in ("ee", "shapely") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"module {missing[0]} is not installed: pip install 'flood_distill[earthengine]'")


def main(_: list[str]) -> int:
    """Reads the events, searches pairs, makes the tiles, says what was done."""
    _require_extra()
    from data_prep.earth_engine_curation import client, curate, planning, settings
    from data_prep.earth_engine_curation.events import read_events

    cli.parse_gin([_CONFIG, *flags.FLAGS.gin_file], flags.FLAGS.gin_param)
    what, how = settings.external_dataset(), settings.earth_engine_traffic()
    events = read_events(_EVENTS.value)
    output_dir = Path(_OUTPUT_DIR.value)
    chips_dir = Path(_SEN1FLOODS11_DIR.value) if _SEN1FLOODS11_DIR.value else None
    service = client.EarthEngine(what, how, _PROJECT.value, _URL.value or client.HIGH_VOLUME_URL, _KEY.value)

    try:
        if _DRY_RUN.value:
            plans, notes = curate.plan(events, service, output_dir, what, chips_dir)
            print("\n".join([*planning.summary(plans, with_pairs=True), *(f"note: {note}" for note in notes)]))
            return int(any(one.failed for one in plans))
        done = curate.curate(events, service, output_dir, what, how, chips_dir)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on from here") from None
    print("\n".join(curate.summary(done)))
    return int(not done.complete)


def entry_point() -> None:
    """The console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
