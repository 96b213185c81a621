"""What an export says to people and programs: what goes in, what comes out, where it comes from, what it cannot do."""

import json
from collections.abc import Mapping, Sequence

from etils import epath

from flood_distill import contract, statistics, table1
from flood_distill.errors import UserError
from flood_distill.model_info import ModelInfo

MODEL_CARD_JSON = "model_card.json"
MODEL_CARD_MD = "model_card.md"
_SCORES = ("iou_pooled", "iou_per_chip", "precision", "recall", "f1")
LIMITS = (
    "Water that wind has roughened, and water under trees or between houses, looks like land to radar and is missed.",
    "Smooth dry ground (sand, runways, wet snow) and radar shadow in mountains look like water and may be mapped so.",
    "The mask is all water, not flood alone: compare with water that is always there (predict --reference_water).",
    "Only radar of the kind that the inputs describe (sensor, unit, pixel size) was seen in training.",
    "Probabilities are those of a network, not frequencies, unless a temperature was calibrated.",
)
SYNTHETIC_LIMIT = "Trained on a synthetic world: it shows that the method runs, and says nothing about real floods."


def input_contract(info: ModelInfo) -> list[dict]:
    """Returns what each input of the SavedModel holds."""
    imagery = info.imagery
    inputs = {imagery.s1_input: (imagery.s1_bands, "NaN in any band = no data")}
    if info.inputs == contract.INPUT_S1_S2:
        inputs[imagery.s2_input] = (imagery.s2_bands, "0 in all bands = no data")
    resolution_m = contract.PIXEL_SIZE_M if imagery == contract.SENTINEL else None
    return [
        {
            "name": name,
            "dtype": contract.FLOAT32,
            "shape": ["batch", "height", "width", len(bands)],
            "bands": [{"name": band.name, "unit": band.unit, "clipped_to": [band.low, band.high]} for band in bands],
            "no_data": no_data,
            "resolution_m": resolution_m,
        }
        for name, (bands, no_data) in inputs.items()
    ]


def output_contract(info: ModelInfo) -> list[dict]:
    """Returns what each output of the SavedModel holds."""
    shape = ["batch", "height", "width"]
    target = info.imagery.target
    return [
        {
            "name": contract.WATER_PROBABILITY,
            "dtype": contract.FLOAT32,
            "shape": shape,
            "meaning": f"probability of {target}, 0 to 1; NaN where Sentinel-1 has no data",
        },
        {
            "name": contract.WATER_MASK,
            "dtype": "uint8",
            "shape": shape,
            "meaning": f"1 {target} (probability at least {info.threshold:g}), 0 not, {contract.MASK_NODATA} no data",
        },
    ]


def card(info: ModelInfo, metrics: Sequence[Mapping] = (), gin_config: str = "") -> dict:
    """Returns the card.

    Args:
        info: the model's description.
        metrics: contents of metrics.json files of this model's evaluations.
        gin_config: the operative configuration of its training.
    """
    synthetic = [SYNTHETIC_LIMIT] if info.source == contract.SOURCE_SYNTHETIC else []
    return {
        "name": info.name,
        "role": "teacher" if info.inputs == contract.INPUT_S1_S2 else "student or baseline",
        "inputs": input_contract(info),
        "outputs": output_contract(info),
        "threshold": info.threshold,
        "temperature": info.temperature,
        "precision": info.precision,
        "training": {
            "task": info.task,
            "datasets": info.train_datasets,
            "source": info.source,
            "teacher": info.teacher,
            "pretrained": info.pretrained,
            "seed": info.seed,
            "step": info.step,
        },
        "validation": {"dataset": info.dataset, "split": contract.VALIDATION_SPLIT, "iou_pooled": info.iou},
        "metrics": [
            {key: found[key] for key in ("dataset", "split", "source", "num_chips", *_SCORES)} for found in metrics
        ],
        "definitions": {name: statistics.DEFINITIONS[name] for name in ("scored pixels", *_SCORES)},
        "paper_rows": [{"title": row.title, "iou_percent": row.paper_iou, "std": row.paper_std} for row in table1.ROWS],
        "limits": [*synthetic, *LIMITS],
        "gin_config": gin_config,
    }


def read_metrics(paths: Sequence[str], info: ModelInfo) -> list[dict]:
    """Reads metrics.json files and checks that they are of this model.

    Raises:
        UserError: for a file that cannot be read, or is of a model of another name.
    """
    found = []
    for path in paths:
        try:
            metrics = json.loads(epath.Path(path).read_text())
            missing = [key for key in ("model_name", "dataset", "split", "num_chips", *_SCORES) if key not in metrics]
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"--metrics={path}: not the metrics.json of flood_distill.evaluate ({error})") from error
        if missing:
            raise UserError(f"--metrics={path}: not the metrics.json of flood_distill.evaluate (no {missing[0]})")
        if metrics["model_name"] != info.name:
            raise UserError(f"--metrics={path}: of the model {metrics['model_name']}, not of {info.name}")
        found.append(metrics)
    return found


def as_markdown(content: Mapping) -> str:
    """Returns a card for people."""
    training, validation = content["training"], content["validation"]
    lines = [
        f"# {content['name']}",
        "",
        f"A flood mapping network ({content['role']}), {training['task']} on {', '.join(training['datasets'])} "
        f"(**{training['source']}** data), seed {training['seed']}, step {training['step']}"
        + (f", teacher {training['teacher']}" if training["teacher"] else "")
        + (f", from {training['pretrained']}" if training["pretrained"] else "")
        + ".",
        "",
        "## Input and output",
        "",
        "| tensor | type | bands in order, clipped to | no data, meaning |",
        "|---|---|---|---|",
        *(_input_row(tensor) for tensor in content["inputs"]),
        *(f"| `{out['name']}` | {out['dtype']} {_shape(out)} | | {out['meaning']} |" for out in content["outputs"]),
        "",
        f"Water where the probability is at least {content['threshold']:g}; logits are divided by the temperature "
        f"{content['temperature']:g}. Arithmetic: {content['precision']}.",
        "",
        "## Scores",
        "",
        "| dataset | split | data | chips | IoU pooled | IoU per chip | precision | recall | F1 |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {validation['dataset']} | {validation['split']} (chose the weights) | {training['source']} | | "
        f"{_number(validation['iou_pooled'])} | | | | |",
        *(_score_row(found) for found in content["metrics"]),
        "",
        *(f"* {name}: {text}" for name, text in content["definitions"].items()),
        "",
        "The paper's rows, on the Sen1Floods11 test split (not scores of this model):",
        "",
        "| method | water IoU, percent |",
        "|---|---|",
        *(f"| {row['title']} | {row['iou_percent']}{_std(row['std'])} |" for row in content["paper_rows"]),
        "",
        "## Limits",
        "",
        *(f"* {limit}" for limit in content["limits"]),
    ]
    if content["gin_config"]:
        lines += ["", "## Configuration of the training", "", "```", content["gin_config"].strip(), "```"]
    return "\n".join(lines) + "\n"


def _input_row(tensor: Mapping) -> str:
    bands = ", ".join(
        f"{band['name']} {band['clipped_to'][0]:g}..{band['clipped_to'][1]:g} {band['unit']}"
        for band in tensor["bands"]
    )
    pixels = f", pixels of {tensor['resolution_m']:g} m" if tensor["resolution_m"] else ""
    return f"| `{tensor['name']}` | {tensor['dtype']} {_shape(tensor)} | {bands} | {tensor['no_data']}{pixels} |"


def _shape(tensor: Mapping) -> str:
    return f"[{', '.join(str(size) for size in tensor['shape'])}]"


def _score_row(found: Mapping) -> str:
    scores = " | ".join(_number(found[key]) for key in _SCORES)
    return f"| {found['dataset']} | {found['split']} | {found['source']} | {found['num_chips']} | {scores} |"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _std(value: float | None) -> str:
    return "" if value is None else f" ± {value}"
