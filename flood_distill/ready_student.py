"""The student that comes with the package, which `predict` takes where no model is named."""

import json
from collections.abc import Mapping
from pathlib import Path

from flood_distill.errors import UserError

# assets.extra/model_card.json of a SavedModel; written out, so that --help imports no TensorFlow.
_CARD = "assets.extra/model_card.json"
FOLDER = Path(__file__).parent / "ready_student_model"


def folder() -> str:
    """Returns the folder of its SavedModel.

    Raises:
        UserError: if this installation has none.
    """
    if not (FOLDER / _CARD).is_file():
        raise UserError("--model is missing, and this installation has no ready-made student (`make ready_student`)")
    return str(FOLDER)


def figures() -> str:
    """Returns in a few lines what the ready-made student is and how it scored, whatever the scores are."""
    return describe(json.loads((Path(folder()) / _CARD).read_text()))


def describe(card: Mapping) -> str:
    """Returns what a model card says of training and scores, one score a line."""
    training = card["training"]
    lines = [f"Ready-made student: trained on {training['source']} data ({', '.join(training['datasets'])})."]
    for found in card["metrics"]:
        lines.append(
            f"  {100 * found['iou_pooled']:.1f} % pooled water IoU on the {found['split']} split of {found['dataset']} "
            f"({found['source']} data, {found['num_chips']} chips; precision {100 * found['precision']:.0f} %, "
            f"recall {100 * found['recall']:.0f} %)"
        )
    return "\n".join(lines)
