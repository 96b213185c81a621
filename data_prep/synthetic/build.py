"""Writes a whole synthetic world: several processes, one result, nothing half written."""

import functools
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import gin
from tqdm import tqdm

from data_prep.synthetic import chips, layout, sheet, world
from flood_distill import contract
from flood_distill.errors import UserError

CONTACT_SHEET = "contact_sheet.png"


@gin.configurable
def synthesize(
    output_dir: str,
    overwrite: bool = False,
    workers: int = 0,
    num_train: int = chips.Sizes.train,
    num_validation: int = chips.Sizes.validation,
    num_test: int = chips.Sizes.test,
    num_bolivia: int = chips.Sizes.bolivia,
    num_weak: int = chips.Sizes.weak,
    num_external: int = chips.Sizes.external,
    scene_width_px: int = world.SCENE_WIDTH_PX,
    scene_height_px: int = world.SCENE_HEIGHT_PX,
    contact_sheet: bool = True,
) -> Path:
    """Writes the synthetic world; the bytes depend on sizes and `world` alone, not on the number of workers.

    Args:
        output_dir: folder to make; it appears when it is whole.
        overwrite: replace a world that is there.
        workers: processes; 0 means one a core, at most 8.
        num_train, num_validation, num_test, num_bolivia: hand-labelled chips a split.
        num_weak: weakly labelled chips.
        num_external: external tiles.
        scene_width_px, scene_height_px: size of the larger scene.
        contact_sheet: also write `contact_sheet.png`.

    Returns:
        `output_dir`. A complete world of the same sizes is left as it is.

    Raises:
        UserError: if `output_dir` holds anything else and `overwrite` is off, or a number is negative.
    """
    target = Path(output_dir)
    sizes = chips.Sizes(num_train, num_validation, num_test, num_bolivia, num_weak, num_external)
    _check_sizes(sizes)
    scene_px = (scene_width_px, scene_height_px)
    if _is_complete(target, sizes, scene_px) and not overwrite:
        print(f"{target}: this world is complete; --overwrite makes it again")
        return target
    if target.exists() and not overwrite and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--output_dir={target}: holds something else; choose another folder or add --overwrite")

    partial = target.parent / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a killed run
    partial.mkdir(parents=True)
    try:
        specs = chips.plan(sizes)
        _write_all(partial, specs, scene_px, workers)
        if contact_sheet:
            sheet.write(partial / CONTACT_SHEET, _on_sheet(specs))
        layout.write_lists(partial, specs, sizes, scene_px)
        _replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _check_sizes(sizes: chips.Sizes) -> None:
    for name, number in vars(sizes).items():
        if not 0 <= number <= 1000:
            raise UserError(f"synthesize.num_{name}={number}: must lie between 0 and 1000")


def _is_complete(target: Path, sizes: chips.Sizes, scene_px: tuple[int, int]) -> bool:
    marker = target / contract.SYNTHETIC_MARKER
    if not marker.is_file():
        return False
    note = json.loads(marker.read_text())
    expected = layout.marker(sizes, scene_px)
    return all(note.get(key) == expected[key] for key in ("world_version", "seed", "sizes", "scene_px"))


def _write_all(root: Path, specs: list[chips.Spec], scene_size: tuple[int, int], workers: int) -> None:
    workers = workers or min(8, os.cpu_count() or 1)
    scene = functools.partial(layout.write_scene, root, *scene_size)
    jobs = [scene, *(functools.partial(_write_one, root, spec) for spec in specs)]
    if workers == 1:
        for job in tqdm(jobs, desc="synthesize", unit="chip"):
            job()
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in tqdm(pool.imap_unordered(_call, jobs), desc="synthesize", unit="chip", total=len(jobs)):
            pass


def _call(job: functools.partial) -> None:
    job()


def _write_one(root: Path, spec: chips.Spec) -> None:
    layout.write_chip(root, spec, chips.make_chip(spec))


def _on_sheet(specs: list[chips.Spec]) -> list[chips.Spec]:
    """Up to four chips a split, awkward ones first among them."""
    chosen = []
    for split in dict.fromkeys(spec.split for spec in specs):
        own = [spec for spec in specs if spec.split == split]
        chosen += sorted(own, key=lambda spec: not spec.quirk)[:2] + [spec for spec in own if not spec.quirk][:2]
    return list(dict.fromkeys(chosen))


def _replace(partial: Path, target: Path) -> None:
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
