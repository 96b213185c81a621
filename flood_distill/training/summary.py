"""What a run says when it has ended: how good, how long, where everything is and what to do next."""

import shlex
from pathlib import Path

from etils import epath

from flood_distill import contract
from flood_distill.training import training_csv


def summary(model_dir: str, data_dir: str, best_step: int, best_iou: float, steps: int) -> str:
    """Returns some lines to print.

    Args:
        model_dir: folder of the run.
        data_dir: folder of the converted datasets.
        best_step: step of the best weights.
        best_iou: their pooled validation IoU.
        steps: the run's last step.
    """
    rows = training_csv.read(model_dir)
    folder = epath.Path(model_dir)
    evaluate = _command(
        "evaluate", model=model_dir, data_dir=data_dir, split=contract.TEST_SPLIT, output_dir=folder / "evaluation"
    )
    files = {
        "best weights": contract.BEST_DIR,
        "what the model is": contract.MODEL_JSON,
        "curves": contract.TRAINING_CSV,
        "maps": contract.EXAMPLES_PNG,
        "TensorBoard": contract.TENSORBOARD_DIR,
    }
    return "\n".join(
        [
            f"best validation IoU {best_iou:.4f} at step {best_step} of {steps}; {training_csv.hours(rows):.2f} hours, "
            f"{training_csv.images_per_second(rows):.3g} images/s",
            *(f"  {what}: {folder / name}" for what, name in files.items() if (folder / name).exists()),
            "next:",
            f"  {evaluate}",
            f"  {_command('export', model_dir=model_dir, export_dir=folder / 'export')}",
            f"  tensorboard --logdir={shlex.quote(str(folder / contract.TENSORBOARD_DIR))}",
        ]
    )


def _command(name: str, **flags: str | Path) -> str:
    arguments = (f"--{flag}={value}" for flag, value in flags.items())
    return shlex.join(["python", "-m", f"flood_distill.{name}", *arguments])
