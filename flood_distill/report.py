r"""Writes the report of a `reproduce` run: Table 1 with the paper beside ours, pictures, curves, commands.

python -m flood_distill.report --work_dir=W

Plain Markdown in W/report.md with PNGs beside it; every number is read from what the stages wrote.
"""

import json
import statistics as stdlib_statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flood_distill import cli, contract, files, statistics, table1, work_dir
from flood_distill.errors import UserError

PANELS_PNG = "report_panels.png"
CURVES_PNG = "report_curves.png"
NUM_PANELS = 6

flags.DEFINE_string("work_dir", None, "Folder of a flood_distill.reproduce run.", required=True)
FLAGS = flags.FLAGS


def write_report(work: Path) -> Path:
    """Writes W/report.md and its pictures from the results of all stages.

    Raises:
        UserError: if a result is missing.
    """
    from flood_distill import evaluation

    plan = json.loads(_read(work / work_dir.PLAN_JSON))
    metrics = {
        (row.key, split): [
            json.loads(_read(work_dir.evaluation_dir(work, row, seed, split) / evaluation.METRICS_JSON))
            for seed in _seeds(row, plan)
        ]
        for row in table1.ROWS
        for split in work_dir.SPLITS
    }
    synthetic = metrics[table1.OTSU.key, contract.TEST_SPLIT][0]["source"] == contract.SOURCE_SYNTHETIC
    _draw_curves(work, plan["seeds"][0])
    _draw_panels(work, plan)
    sections = [
        _head(synthetic, plan),
        _table(metrics),
        _panel_section(),
        _curve_section(),
        *_map_section(work),
        _command_section(work, plan),
        _definition_section(),
    ]
    files.write_text(work / work_dir.REPORT_MD, "\n\n".join(sections) + "\n")
    return work / work_dir.REPORT_MD


def _read(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: not there; run flood_distill.reproduce with the same --work_dir to the end")
    return path.read_text()


def _seeds(row: table1.Row, plan: dict) -> list[int]:
    return plan["seeds"] if row.trained else plan["seeds"][:1]


def _head(synthetic: bool, plan: dict) -> str:
    lines = ["# Cross modal distillation for flood extent mapping: what this run measured", ""]
    if synthetic:
        lines += [
            '**Synthetic data: every number in the columns "ours" comes from the synthetic world, whose floods, radar '
            "and optical images are simulated. They show that the method works end to end; they say nothing about "
            "accuracy on real floods and are not comparable with the paper's column.**",
            "",
        ]
    lines.append(f"Seeds: {', '.join(map(str, plan['seeds']))}. Data: `{plan['data_dir']}`.")
    return "\n".join(lines)


def _table(metrics: dict[tuple[str, str], list[dict]]) -> str:
    lines = [
        "## Table 1",
        "",
        "Water IoU in percent on the test split, and on Bolivia, an event that no training split holds.",
        "",
        "| Method | Paper: IoU | Ours: IoU pooled | Ours: IoU per chip | Precision | Recall | Bolivia: IoU pooled |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table1.ROWS:
        test, bolivia = metrics[row.key, contract.TEST_SPLIT], metrics[row.key, contract.BOLIVIA_SPLIT]
        paper = f"{row.paper_iou:.2f}" + ("" if row.paper_std is None else f" ± {row.paper_std:.2f}")
        cells = [
            row.title,
            paper,
            f"**{_percent(test, 'iou_pooled')}**",
            *(_percent(test, key) for key in ("iou_per_chip", "precision", "recall")),
            _percent(bolivia, "iou_pooled"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    scored = metrics[table1.OTSU.key, contract.TEST_SPLIT][0]
    lines += [
        "",
        f"All rows are scored on the same {scored['tp'] + scored['fp'] + scored['fn'] + scored['tn']} pixels of "
        f"{scored['num_chips']} test chips; not scorable: {', '.join(scored['unscorable_chips']) or 'none'}. Of the "
        f"scored pixels {100 * scored['share_without_s2']:.2f} % have no Sentinel-2.",
    ]
    return "\n".join(lines)


def _percent(runs: Sequence[dict], key: str) -> str:
    """Mean over runs in percent, with the standard deviation where there are several."""
    values = [100 * run[key] for run in runs if run[key] is not None]
    if not values:
        return "n/a"
    mean = f"{stdlib_statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {stdlib_statistics.stdev(values):.2f}"


def _panel_section() -> str:
    return (
        f"## Test chips\n\nDry green, water blue, invalid black, cloud white, as in the paper's Figure 2.\n\n"
        f"![Inputs, ground truth and predictions of test chips]({PANELS_PNG})"
    )


def _curve_section() -> str:
    return f"## Training\n\n![Training loss and validation IoU by step]({CURVES_PNG})"


def _map_section(work: Path) -> list[str]:
    """The flood map of a whole scene, scored against its truth where the world has it."""
    sections = []
    for provenance_path in sorted((work / work_dir.MAPS).glob("*.json")):
        stem = provenance_path.stem
        lines = [
            f"## Flood map of a scene: {stem}",
            "",
            f"![Scene and flood map]({work_dir.MAPS}/{stem}_preview.png)",
            "",
        ]
        names = ", ".join(f"`{path.name}`" for path in sorted((work / work_dir.MAPS).glob(f"{stem}*")))
        lines.append(f"Written to `{work_dir.MAPS}/`: {names}.")
        truths = sorted((work / work_dir.WORLD).glob(f"*/{stem.removesuffix('_S1')}_water.tif"))
        if truths:
            counts = _score_map(work / work_dir.MAPS / f"{stem}_water.tif", truths[0])
            lines += ["", f"Water IoU of the map against the scene's (synthetic) truth: {statistics.iou(counts):.4f}."]
        sections.append("\n".join(lines))
    return sections


def _score_map(map_path: Path, truth_path: Path) -> statistics.Counts:
    """Counts a mask against a truth raster of another resolution, warped to the mask's grid by nearest pixel."""
    import rasterio
    from rasterio.vrt import WarpedVRT

    with rasterio.open(map_path) as mask_file, rasterio.open(truth_path) as truth_file:
        mask = mask_file.read(1)
        grid = {"crs": mask_file.crs, "transform": mask_file.transform, "width": mask_file.width}
        with WarpedVRT(
            truth_file, **grid, height=mask_file.height, src_nodata=contract.MASK_NODATA, nodata=contract.MASK_NODATA
        ) as warped:
            truth = warped.read(1)
    scored = (mask != contract.MASK_NODATA) & (truth != contract.MASK_NODATA)
    labels = np.where(scored, truth, contract.IGNORE_LABEL)
    return statistics.count(mask == contract.WATER, labels, scored)


def _command_section(work: Path, plan: dict) -> str:
    lines = ["## Commands", "", "Every stage, its command (the seed is in it) and the seconds it took.", ""]
    lines += ["| Stage | Seconds | Command |", "|---|---|---|"]
    for name, command in plan["commands"].items():
        seconds = json.loads(_read(work / "stages" / f"{name}.json"))["seconds"]
        lines.append(f"| {name} | {seconds:.0f} | `{command}` |")
    return "\n".join(lines)


def _definition_section() -> str:
    return "\n".join(["## Definitions", "", *(f"* {name}: {text}" for name, text in statistics.DEFINITIONS.items())])


def _draw_curves(work: Path, seed: int) -> None:
    from flood_distill.training import training_csv

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axis, iou_axis = figure.subplots(1, 2)
    for row in table1.ROWS:
        if not row.trained:
            continue
        rows = training_csv.read(work_dir.model_dir(work, row, seed))
        steps = [int(one["step"]) for one in rows]
        loss_axis.plot(steps, [float(one["loss"]) for one in rows], label=row.title, linewidth=1.2)
        iou_axis.plot(*zip(*training_csv.validations(rows), strict=True), marker=".", label=row.title, linewidth=1.2)
    loss_axis.set(title="Training loss (data term)", xlabel="step", ylabel="cross-entropy", ylim=(0, None))
    iou_axis.set(title="Validation water IoU, pooled", xlabel="step", ylabel="IoU", ylim=(0, 1))
    for axis in (loss_axis, iou_axis):
        axis.grid(alpha=0.3)
    iou_axis.legend(fontsize=7, loc="lower right")
    with files.whole_file(work / CURVES_PNG) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw_panels(work: Path, plan: dict) -> None:
    from flood_distill import chips, evaluation, panels, records

    seed = plan["seeds"][0]
    dataset = records.load(plan["data_dir"], contract.HAND)
    predictions = {
        row.title: np.load(work_dir.evaluation_dir(work, row, seed, contract.TEST_SPLIT) / evaluation.PREDICTIONS_NPZ)
        for row in table1.ROWS
    }
    otsu = work_dir.evaluation_dir(work, table1.OTSU, seed, contract.TEST_SPLIT)
    chip_ids = chips.telling_chips(evaluation.read_per_chip(otsu / evaluation.PER_CHIP_CSV), NUM_PANELS)
    shown = chips.read_chips(dataset, contract.TEST_SPLIT, chip_ids)
    panels.comparison_panel(shown, predictions, work / PANELS_PNG)


def main(_: list[str]) -> None:
    """Writes the report."""
    print(f"report: {write_report(Path(FLAGS.work_dir))}")


if __name__ == "__main__":
    cli.run(main)
