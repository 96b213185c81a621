"""Makes the External Dataset's tiles: search, fetch in parallel, write, keep account."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Protocol

import numpy as np
import tqdm

from data_prep.earth_engine_curation import evaluation_ground, ledger, ndwi, pairing, planning
from data_prep.earth_engine_curation.events import Event
from data_prep.earth_engine_curation.ledger import Entry, Ledger
from data_prep.earth_engine_curation.pairing import TileSource
from data_prep.earth_engine_curation.planning import EventPlan
from data_prep.earth_engine_curation.settings import OVER_TILE, Settings, Traffic
from data_prep.patience import Refused
from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import raster

_INCOMING = ".incoming"  # where a tile's files wait until all three are whole
_NODATA = {contract.S1: contract.S1_NODATA, contract.S2: contract.S2_NODATA, contract.LABEL: contract.IGNORE_LABEL}
TOO_LITTLE_DATA = "too few pixels that both sensors see"
TOO_CLOUDY = "too much cloud over the tile"


class Service(planning.Catalogue, Protocol):
    """What serves tiles; `client.EarthEngine` does."""

    def fetch(self, tile: TileSource) -> np.ndarray: ...

    def stop(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Curation:
    """What a run did.

    Attributes:
        plans: what was found, by event.
        num_made: tiles written now.
        num_there: tiles written by earlier runs.
        left_out: number of tiles by reason, earlier runs included.
        failures: reasons by chip id of tiles that Earth Engine did not give; the next run asks again.
        notes: what the user should know, one line each.
    """

    plans: Sequence[EventPlan]
    num_made: int
    num_there: int
    left_out: Mapping[str, int]
    failures: Mapping[str, str]
    notes: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether Earth Engine gave all that it was asked for."""
        return not self.failures and not any(one.failed for one in self.plans)


def plan(
    events: Sequence[Event],
    service: planning.Catalogue,
    output_dir: Path,
    settings: Settings,
    sen1floods11_dir: Path | None,
) -> tuple[list[EventPlan], Sequence[str]]:
    """Searches pairs and tiles; writes nothing.

    Returns:
        A plan for each event, and notes.

    Raises:
        UserError: see `planning.plan` and `evaluation_ground.read`.
    """
    ground = evaluation_ground.read(output_dir, sen1floods11_dir)
    return planning.plan(events, service, settings, ground), ground.notes


def curate(
    events: Sequence[Event],
    service: Service,
    output_dir: Path,
    settings: Settings,
    traffic: Traffic,
    sen1floods11_dir: Path | None = None,
) -> Curation:
    """Fills a folder with tiles, as `data_prep.external.layout` describes them, and tables beside them.

    A tile that is there, whole, is not asked for again; so the same call goes on where an earlier one ended.

    Args:
        events: where and when.
        service: an `client.EarthEngine`.
        output_dir: made if it is not there.
        settings: what a tile is.
        traffic: how many requests at a time, how many failures in all.
        sen1floods11_dir: whose evaluation ground is left out.

    Raises:
        UserError: if Earth Engine cannot be used, too many tiles fail, the disk is full, or the folder was made with
            other settings.
    """
    with ledger.opened(output_dir, dataclasses.asdict(settings)) as book:
        plans, notes = plan(events, service, output_dir, settings, sen1floods11_dir)
        ledger.write_csv(output_dir / ledger.PAIRS, planning.pair_rows(plans), planning.PAIR_COLUMNS)
        excluded = {chip_id: why for one in plans for chip_id, why in one.excluded.items()}
        wanted = [tile for one in plans for tile in one.tiles]
        missing = [tile for tile in wanted if not book.done(tile.chip_id)]
        failures: dict[str, str] = {}
        try:
            _fetch_all(missing, service, output_dir, settings, traffic, book, failures)
        finally:
            shutil.rmtree(output_dir / _INCOMING, ignore_errors=True)
            book.write_tables(excluded | failures)
        return _curation(plans, missing, excluded, failures, book, notes)


def _fetch_all(tiles, service, output_dir, settings, traffic, book, failures) -> None:
    executor = futures.ThreadPoolExecutor(traffic.num_parallel)
    tasks = {executor.submit(_make, tile, service, output_dir, settings, book): tile for tile in tiles}
    try:
        progress = tqdm.tqdm(futures.as_completed(tasks), "Fetching", len(tasks), unit="tile", mininterval=1.0)
        for task in progress:
            try:
                task.result()
            except Refused as error:
                failures[tasks[task].chip_id] = str(error)
                if len(failures) >= traffic.max_failures:
                    raise UserError(_too_many(failures)) from error
    except BaseException:
        service.stop()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _make(tile: TileSource, service: Service, output_dir: Path, settings: Settings, book: Ledger) -> None:
    layers = ndwi.layers(service.fetch(tile), settings.ndwi_threshold)
    left_out = _why_left_out(layers, settings)
    written = {} if left_out else _write(tile, layers, output_dir)
    book.add(Entry(tile.chip_id, left_out, _metadata(tile, layers), written))


def _why_left_out(layers: ndwi.Layers, settings: Settings) -> str:
    if layers.valid_share < settings.min_valid_share or not layers.valid_share:
        return TOO_LITTLE_DATA
    if settings.cloud_over == OVER_TILE and not layers.cloud_percent < settings.max_cloud_percent:
        return TOO_CLOUDY
    return ""


def _write(tile: TileSource, layers: ndwi.Layers, output_dir: Path) -> dict[str, tuple[int, str]]:
    """Writes the three files under other names first, so that a tile is there with all of them or not at all."""
    arrays = {contract.S1: layers.s1, contract.S2: layers.s2, contract.LABEL: layers.label}
    paths = ledger.layer_paths(output_dir, tile.chip_id)
    incoming = {name: output_dir / _INCOMING / path.name for name, path in paths.items()}
    (output_dir / _INCOMING).mkdir(exist_ok=True)
    for spec in ledger.layout.LAYERS:
        array = arrays[spec.feature]
        raster.write_geotiff(incoming[spec.layer.name], array, tile.place.grid, _NODATA[spec.feature], cog=False)
    sums = {name: _size_and_sha256(path) for name, path in incoming.items()}
    for name, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        os.replace(incoming[name], path)
    return sums


def _size_and_sha256(path: Path) -> tuple[int, str]:
    content = path.read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()


def _metadata(tile: TileSource, layers: ndwi.Layers) -> dict:
    """Returns the tile's row of metadata.csv; docs/external_dataset.md describes the columns."""
    clouds = [scene.cloud_percent for scene in tile.s2]
    grid = tile.place.grid
    return {
        "event": tile.event_id,
        "s1_time": planning.time_text(tile.s1),
        "s2_time": planning.time_text(tile.s2),
        "gap_hours": round(pairing.largest_gap_hours(tile.s1, tile.s2), 3),
        "image_cloud_percent": round(float(np.max(clouds)), 2),
        "tile_cloud_percent": "" if np.isnan(layers.cloud_percent) else round(layers.cloud_percent, 2),
        "valid_share": round(layers.valid_share, 4),
        "water_share": round(layers.water_share, 4),
        "crs": grid.crs,
        "left_m": grid.transform[2],
        "top_m": grid.transform[5],
        "s1_scenes": " ".join(scene.scene_id for scene in tile.s1),
        "s2_scenes": " ".join(scene.scene_id for scene in tile.s2),
    }


def _curation(plans, missing, excluded, failures, book, notes) -> Curation:
    made = {entry.chip_id for entry in book.entries() if not entry.left_out}
    asked = {tile.chip_id for tile in missing}
    reasons = [entry.left_out for entry in book.entries() if entry.left_out] + list(excluded.values())
    late = sorted(made & set(excluded))
    return Curation(
        plans,
        len(made & asked),
        len(made - asked),
        {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        failures,
        [*notes, *_notes_on_earlier_runs(late)],
    )


def _notes_on_earlier_runs(chip_ids: Sequence[str]) -> list[str]:
    if not chip_ids:
        return []
    return [f"{len(chip_ids)} tiles of an earlier run are on evaluation ground; remove them: {' '.join(chip_ids)}"]


def _too_many(failures: Mapping[str, str]) -> str:
    chip_id, reason = next(iter(failures.items()))
    return (
        f"Earth Engine did not give {len(failures)} tiles, so the run ends (earth_engine_traffic.max_failures); "
        f"the first was {chip_id}: {reason}"
    )


def summary(done: Curation) -> Iterator[str]:
    """Yields what was done, in lines."""
    yield from planning.summary(done.plans, with_pairs=False)
    yield f"made {done.num_made} tiles now, {done.num_there} were there"
    yield from (f"left out, {reason}: {count}" for reason, count in done.left_out.items())
    yield from (f"note: {note}" for note in done.notes)
    yield from (f"failed: {chip_id}: {reason}" for chip_id, reason in sorted(done.failures.items()))
    if done.failures:
        yield f"{len(done.failures)} tiles failed; run the same command again to ask for them once more"
