"""The report of a `reproduce` run as plain Markdown with PNGs beside it; every number is read from kept results."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flood_distill import (
    calibration,
    contract,
    files,
    label_efficiency,
    plot_colors,
    reliability_diagram,
    rows,
    scene_files,
    stages,
    statistics,
    tables,
    work_dir,
)
from flood_distill.errors import UserError
from flood_distill.tables import Method

CURVES_PNG = "report_curves.png"
RELIABILITY_PNG = "report_reliability.png"
LABELS_PNG = "report_label_efficiency.png"


def write_report(results_dir: Path, output_dir: Path, work: Path | None = None) -> Path:
    """Writes OUTPUT_DIR/report.md and its pictures.

    Args:
        results_dir: the kept results; runs that are not finished are left out.
        output_dir: folder for the report.
        work: the folder of the run, for what only it holds: images, curves, maps, commands. None leaves these out.

    Raises:
        UserError: if there is no result.
    """
    plan = json.loads(_read((work or results_dir) / work_dir.PLAN_JSON))
    table = [rows.from_json(row) for row in plan["rows"]]
    methods = tables.read_methods(table, results_dir)
    if not methods:
        raise UserError(f"{results_dir}: no kept result in it; run flood_distill.reproduce with this --results_dir")
    output_dir.mkdir(parents=True, exist_ok=True)
    sections = [_head(plan, table, methods)]
    for dataset in dict.fromkeys(one.row.dataset for one in methods):
        sections += _table_sections([one for one in methods if one.row.dataset == dataset])
    sections += _label_section(methods, output_dir)
    sections += _reliability_section(methods, output_dir)
    if work:
        sections += _work_sections(plan, methods, work, output_dir)
    sections.append(_definition_section())
    files.write_text(output_dir / work_dir.REPORT_MD, "\n\n".join(sections) + "\n")
    return output_dir / work_dir.REPORT_MD


def _read(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: not there; run flood_distill.reproduce with the same folder to the end")
    return path.read_text()


def _head(plan: dict, table: Sequence[rows.Row], methods: Sequence[Method]) -> str:
    lines = ["# Cross modal distillation for flood extent mapping: what this run measured", ""]
    if any(split["source"] == contract.SOURCE_SYNTHETIC for one in methods for split in one.runs[0].splits.values()):
        lines += [
            '**Synthetic data: every number in the columns "ours" comes from the synthetic world, whose floods, radar '
            "and optical images are simulated. They show that the method works end to end; they say nothing about "
            "accuracy on real floods and are not comparable with the paper's column.**",
            "",
        ]
    if "world" in plan:
        lines += [f"The world: `{plan['world']['file']}`, SHA-256 `{plan['world']['sha256']}`.", ""]
    missing = sum(len(row.run_names()) for row in table) - sum(len(one.runs) for one in methods)
    if missing:
        lines += [f"**{missing} runs are not finished and left out.**", ""]
    seeds = sorted({seed for row in table if row.trained for seed in row.seeds})
    lines.append(f"Seeds: {', '.join(map(str, seeds))}.")
    return "\n".join(lines)


def _table_sections(methods: Sequence[Method]) -> list[str]:
    row = methods[0].row
    split, other = row.splits[0], row.splits[1] if len(row.splits) > 1 else ""
    target = contract.imagery(row.dataset).target
    title = "Table 1" if any(one.row.paper_iou for one in methods) else f"Scores on {row.dataset}"
    held_out = ", and on Bolivia, an event that no training split holds" if other else ""
    lines = [
        f"## {title}\n\n{target.capitalize()} IoU in percent on the {split} split{held_out}. ± is the standard "
        "deviation over seeds; an interval is a bootstrap over chips, the seeds averaged chip by chip.",
        tables.scores(methods, split, other),
        tables.scored_pixels(methods, split),
        f"### More on the same pixels\n\n{tables.more_scores(methods, split)}",
    ]
    for one in row.splits * bool(tables.compared(methods)):
        lines.append(f"### Differences, {one} split\n\n{tables.differences(methods, one)}")
    if by_event := tables.events(methods, split):
        lines.append(f"### Event by event\n\nIoU pooled, with its 95 % interval.\n\n{by_event}")
    return lines


def _label_section(methods: Sequence[Method], output_dir: Path) -> list[str]:
    if not any(one.row.num_labels for one in methods):
        return []
    label_efficiency.draw(methods, output_dir / LABELS_PNG)
    text = "## Labels\n\nBars are 95 % intervals over chips. The gap is that between the hand-label student and the "
    text += f"student on all training labels.\n\n![IoU over the number of hand labels]({LABELS_PNG})"
    return [text, table] if (table := tables.gap_closed(methods, methods[0].row.splits[0])) else [text]


def _reliability_section(methods: Sequence[Method], output_dir: Path) -> list[str]:
    first = methods[0].row
    shown = {
        one.title: sum((run.reliability(first.splits[0]) for run in one.runs), calibration.empty())
        for one in methods
        if one.row.trained and one.row.dataset == first.dataset
    }
    if not shown:
        return []
    target = contract.imagery(first.dataset).target
    reliability_diagram.draw(shown, output_dir / RELIABILITY_PNG, target)
    text = f"All seeds together, {first.splits[0]} split of {first.dataset}."
    return [f"## Calibration\n\n{text}\n\n![Reliability diagram]({RELIABILITY_PNG})"]


def _work_sections(plan: dict, methods: Sequence[Method], work: Path, output_dir: Path) -> list[str]:
    from flood_distill import cases

    _draw_curves(work, methods, output_dir)
    return [
        *cases.sections(methods, work, plan["data_dir"], output_dir),
        f"## Training\n\n![Training loss and validation IoU by step]({CURVES_PNG})",
        *_map_section(work),
        _command_section(work, plan),
    ]


def _map_section(work: Path) -> list[str]:
    """The flood map of a whole scene, scored against its truth where the world has it."""
    sections = []
    jsons = sorted((work / work_dir.MAPS).glob("*.json"))
    for provenance_path in (path for path in jsons if not path.name.endswith(scene_files.STAC)):
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
        marker = stages.marker(name, work)
        seconds = f"{json.loads(marker.read_text())['seconds']:.0f}" if marker.exists() else "not done"
        lines.append(f"| {name} | {seconds} | `{command}` |")
    return "\n".join(lines)


def _definition_section() -> str:
    return "\n".join(["## Definitions", "", *(f"* {name}: {text}" for name, text in statistics.DEFINITIONS.items())])


def _draw_curves(work: Path, methods: Sequence[Method], output_dir: Path) -> None:
    from flood_distill.training import training_csv

    several = len({one.row.dataset for one in methods}) > 1
    figure = Figure(figsize=(11, 4 + 0.06 * len(methods)), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axis, iou_axis = figure.subplots(1, 2)
    plot_colors.set_cycle((loss_axis, iou_axis), len(methods))
    for one in methods:
        if not one.row.trained:
            continue
        logs = (training_csv.read(work_dir.model_dir(work, run.run)) for run in one.runs)
        log = next((log for log in logs if log), [])  # of the first seed that was trained here
        if not log:
            continue
        steps = [int(line[training_csv.STEP]) for line in log]
        label = f"{one.title} ({one.row.dataset})" if several else one.title
        loss_axis.plot(steps, [float(line[training_csv.LOSS]) for line in log], label=label, linewidth=1.2)
        if validated := training_csv.validations(log):
            iou_axis.plot(*zip(*validated, strict=True), marker=".", linewidth=1.2)
    loss_axis.set(title="Training loss (data term), one seed", xlabel="step", ylabel="cross-entropy", ylim=(0, None))
    iou_axis.set(title="Validation IoU, pooled, one seed", xlabel="step", ylabel="IoU", ylim=(0, 1))
    for axis in (loss_axis, iou_axis):
        axis.grid(alpha=0.3)
    if loss_axis.lines:
        figure.legend(*loss_axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    with files.whole_file(output_dir / CURVES_PNG) as temporary:
        figure.savefig(temporary, dpi=110)
