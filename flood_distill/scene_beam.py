"""Scenes spread over a cluster by Apache Beam (extra ``beam``): one element a scene, maps in a shared folder."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from flood_distill import beam_settings, contract, files
from flood_distill.beam_settings import Beam
from flood_distill.scene_inputs import SceneInput
from flood_distill.scenes import Numbers, Options

_REPORT = ".failures_{process}.json"  # in the folder of the maps, while a pipeline runs


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Predicts scenes in a pipeline: `scenes.predict_scenes` takes it as `predict_all`.

    Workers load the model by its path once each, read the scenes and write the maps under the paths of this machine.

    Attributes:
        model: as `predictor.load_predictor` takes it.
        beam: runner and options.
        engine: what runs the network.
    """

    model: str
    beam: Beam
    engine: str = contract.TENSORFLOW

    def __call__(
        self, scenes: Sequence[SceneInput], folder: Path, options: Options, numbers: Numbers, overwrite: bool
    ) -> list[str]:
        """Returns one line for each scene that failed, in the order of the scenes.

        Raises:
            UserError: if Beam is not installed, does not know the runner, or the pipeline itself fails.
        """
        pipeline_options = beam_settings.pipeline_options(self.beam.runner, self.beam.options)
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        options = dataclasses.replace(options, reference_water=_absolute(options.reference_water))
        report = folder / _REPORT.format(process=os.getpid())
        arguments = (_absolute(self.model), self.engine, folder, options, numbers, overwrite)
        numbered = list(enumerate(_here(scene) for scene in scenes))
        try:
            with beam_settings.failures(self.beam.runner):
                _run(pipeline_options, numbered, arguments, report)
            return [line for _, line in sorted(json.loads(report.read_text()))]
        finally:
            report.unlink(missing_ok=True)


def _run(pipeline_options, numbered: list[tuple[int, SceneInput]], arguments: tuple, report: Path) -> None:
    import apache_beam as beam

    class PredictScene(beam.DoFn):
        """Makes one scene's maps; the worker keeps its model."""

        def setup(self) -> None:
            from flood_distill import predictor

            model, engine, *_ = arguments
            self._predictor = predictor.load_predictor(model, engine=engine)

        def process(self, element: tuple[int, SceneInput]) -> Iterator[tuple[int, str]]:
            from flood_distill import scenes

            number, scene = element
            failure = scenes.predict_or_tell(self._predictor, scene, *arguments[2:])
            if failure:
                yield number, failure

    with beam.Pipeline(options=pipeline_options) as pipeline:
        failures = (
            pipeline
            | "Scenes" >> beam.Create(numbered)
            | "Spread" >> beam.Reshuffle()  # otherwise one worker might get all scenes
            | "Predict" >> beam.ParDo(PredictScene())
            | "Collect" >> beam.combiners.ToList()
        )
        _ = failures | "WriteReport" >> beam.Map(_write_report, report)


def _write_report(failures: list[tuple[int, str]], path: Path) -> None:
    files.write_text(path, json.dumps(failures))


def _here(scene: SceneInput) -> SceneInput:
    return dataclasses.replace(scene, paths=tuple(_absolute(path) for path in scene.paths))


def _absolute(path: str) -> str:
    """Returns the full path of a local file or folder; anything else as it is."""
    return os.path.abspath(path) if path and os.path.exists(path) else path
