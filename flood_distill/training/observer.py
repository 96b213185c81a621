"""What is looked at beside the numbers: example maps and, on request, weights."""

import dataclasses
from collections.abc import Callable

import gin
import keras
from etils import epath

from flood_distill import contract, model_info
from flood_distill.training.example_maps import ExampleMaps
from flood_distill.training.run_log import RunLog


@dataclasses.dataclass(frozen=True)
class Monitoring:
    """What to look at and how often; see `monitoring`."""

    num_maps: int
    maps_every: int
    histograms_every: int


@gin.configurable
def monitoring(*, num_maps: int = 4, maps_every: int = 2500, histograms_every: int = 0) -> Monitoring:
    """Returns what a run shows beside the numbers; both are made at validations only.

    Args:
        num_maps: chips in the picture of Sentinel-1, Sentinel-2, label, teacher and network; 0 draws none.
        maps_every: steps between two pictures (at the first validation after so many); the last step has one always.
        histograms_every: steps between two histograms of all weights in TensorBoard; 0 makes none.
    """
    return Monitoring(num_maps, maps_every, histograms_every)


class Observer:
    """Looks at the network after validations.

    Args:
        settings: what to look at.
        log: takes pictures and histograms.
        model: the network that is trained.
        info: its description.
        make_maps: number of chips -> their maps; called when the first picture is due.
        model_dir: where the latest picture lies.
        step: steps already made.
    """

    def __init__(
        self,
        settings: Monitoring,
        log: RunLog,
        model: keras.Model,
        info: model_info.ModelInfo,
        make_maps: Callable[[int], ExampleMaps],
        model_dir: str,
        step: int,
    ):
        self._settings = settings
        self._log = log
        self._model = model
        self._info = info
        self._make_maps = make_maps
        self._maps: ExampleMaps | None = None
        self._path = epath.Path(model_dir) / contract.EXAMPLES_PNG
        self._step = step

    def look(self, step: int, last: bool) -> None:
        """Shows what is due.

        Args:
            step: steps made so far.
            last: whether no step comes after it.
        """
        if self._settings.num_maps and (last or self._is_due(step, self._settings.maps_every)):
            self._draw(step)
        if self._settings.histograms_every and self._is_due(step, self._settings.histograms_every):
            self._log.weight_histograms(step, self._model)
        self._step = step

    def _is_due(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` lies between the last look and this one."""
        return step // every > self._step // every

    def _draw(self, step: int) -> None:
        self._maps = self._maps or self._make_maps(self._settings.num_maps)
        if self._maps.draw(self._model, self._info, step, self._path):
            self._log.picture(step, "examples", self._path)
