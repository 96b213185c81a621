"""What a trained model says of itself: `model.json` in a model_dir, copied into every export."""

import dataclasses
import json
from collections.abc import Sequence

from etils import epath

from flood_distill import contract, files
from flood_distill.errors import UserError


@dataclasses.dataclass
class ModelInfo:
    """Everything that is needed to rebuild a network, feed it and judge where it comes from.

    Attributes:
        name: name of the experiment, such as ``student_distill``.
        task: ``supervised`` or ``distillation``.
        inputs: ``s1`` (a student), ``s1+s2`` (a teacher) or ``s2`` (a teacher without radar).
        network: keyword arguments of `flood_distill.models.deeplab.deeplab_v3_plus`.
        bands: the input bands in channel order, with the limits of their normalisation.
        fill_value: value of invalid pixels after normalisation.
        threshold: a pixel is water where its probability is at least this; chosen on the validation split where
            `train.thresholds` gave a choice.
        temperature: what logits are divided by before the softmax; other than 1 where it was calibrated.
        precision: arithmetic of the network: ``float32``, or ``bfloat16`` in an export made so.
        training_precision: arithmetic of the training steps, one of `contract.TRAINING_PRECISIONS`; the weights are
            float32.
        train_datasets: datasets that the weights were trained on.
        dataset: dataset whose validation split chose the weights.
        source: ``real`` or ``synthetic``: what the datasets hold.
        weight_average_decay: the weights are a moving average over the steps with this decay; 0 if they are not.
        teacher: name of the teacher's experiment and its model_dir's last part, or empty.
        pretrained: last two parts of the path of the checkpoint or model_dir that training started from, or empty.
        seed: the run's seed.
        step: training step of the best weights; 0 before the first validation.
        iou: pooled water IoU of the best weights on the validation split, in [0, 1].
    """

    name: str
    task: str
    inputs: str
    network: dict
    train_datasets: list[str]
    dataset: str
    source: str
    seed: int
    teacher: str = ""
    pretrained: str = ""
    step: int = 0
    iou: float | None = None
    bands: list[dict] = dataclasses.field(default_factory=list)
    fill_value: float = contract.FILL_VALUE
    threshold: float = contract.WATER_THRESHOLD
    temperature: float = 1.0
    precision: str = contract.FLOAT32
    training_precision: str = contract.FLOAT32
    weight_average_decay: float = 0.0

    def __post_init__(self) -> None:
        if not self.bands:
            self.bands = [dataclasses.asdict(band) for band in self.imagery.bands(self.inputs)]

    @property
    def imagery(self) -> contract.Imagery:
        """What the images hold that the network was validated on."""
        return contract.imagery(self.dataset)

    @property
    def output_stride(self) -> int:
        """Output stride of the network's encoder."""
        return self.network["output_stride"]

    @property
    def input_bands(self) -> Sequence[contract.Band]:
        """The bands as the normalisation takes them."""
        return tuple(contract.Band(**band) for band in self.bands)


def write(info: ModelInfo, folder: str | epath.Path) -> None:
    """Writes `folder`/model.json, whole or not at all."""
    text = json.dumps(dataclasses.asdict(info), indent=2) + "\n"
    files.write_text(epath.Path(folder) / contract.MODEL_JSON, text)


def read(folder: str | epath.Path) -> ModelInfo:
    """Reads `folder`/model.json.

    Raises:
        UserError: if it is not there or not whole.
    """
    path = epath.Path(folder) / contract.MODEL_JSON
    if not path.exists():
        raise UserError(f"{folder}: no {contract.MODEL_JSON} there; give the --model_dir of a flood_distill.train run")
    try:
        return ModelInfo(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not a model description of this version ({error})") from error
