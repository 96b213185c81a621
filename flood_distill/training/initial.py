"""Where a new run's first weights come from."""

import dataclasses
from collections.abc import Sequence

import keras
from etils import epath
from tqdm import tqdm

from flood_distill import contract, model_info
from flood_distill.errors import UserError
from flood_distill.training import pretrained, warm_start


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """The best weights of another run, those of a public checkpoint, or scratch: what the seed drew.

    Attributes:
        run: model_dir of the other run; empty for none.
        checkpoint: TF1 checkpoint; empty for none.
        part: of the checkpoint, see `pretrained.load`.

    Raises:
        UserError: if there are both.
    """

    run: str
    checkpoint: str
    part: str

    def __post_init__(self):
        if self.run and self.checkpoint:
            raise UserError("train.initial_weights and train.pretrained_checkpoint: give one of them")

    def input_range(self) -> Sequence[float]:
        """Returns the range of the input that the weights expect."""
        if self.run:
            return model_info.read(self.run).network.get("input_range", contract.IMAGE_RANGE)
        return pretrained.input_range(self.checkpoint) if self.checkpoint else contract.IMAGE_RANGE

    def short_name(self) -> str:
        """Returns what model.json says of them; empty for scratch."""
        return "/".join(epath.Path(self.run or self.checkpoint).parts[-2:])

    def load(self, model: keras.Model, info: model_info.ModelInfo) -> None:
        """Gives `model` these weights and says so.

        Raises:
            UserError: if they do not fit.
        """
        if self.run:
            tqdm.write(warm_start.load(model, info, self.run))
        elif self.checkpoint:
            tqdm.write(str(pretrained.load(model, self.checkpoint, self.part)))
