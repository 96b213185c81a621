"""Settings of Apache Beam (extra ``beam``), which spreads work over the machines of Dataflow, Flink or Spark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flood_distill.errors import UserError

_DIRECT_RUNNER = "DirectRunner"
# Without it, Beam's DirectRunner fetches a program, Prism, from GitHub and runs that. It also allows triggers that may
# lose data; nothing of ours has triggers.
_WITHOUT_PRISM = "--allow_unsafe_triggers"

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_options(runner: str, options: Sequence[str] = ()) -> "PipelineOptions":
    """Returns the options of a pipeline, those that its runner needs included.

    Args:
        runner: ``DirectRunner``, ``DataflowRunner``, ``FlinkRunner``, ``SparkRunner`` or another that Beam knows.
        options: each ``NAME=VALUE``, or ``NAME`` for a switch; names as in Beam's documentation.

    Raises:
        UserError: if Apache Beam is not installed, the runner is unknown or an option has a wrong value.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners import create_runner
    except ImportError as error:
        raise UserError(f"--beam_runner={runner}: needs Apache Beam: pip install 'flood_distill[beam]'") from error
    settings = [f"--{option.lstrip('-')}" for option in options]
    if runner == _DIRECT_RUNNER:
        settings.append(_WITHOUT_PRISM)
    try:
        create_runner(runner)
        found = PipelineOptions(settings, runner=runner)
        found.get_all_options()
    except (ImportError, ValueError, SystemExit) as error:  # argparse exits for a wrong value
        raise UserError(f"--beam_runner={runner} --beam_options={','.join(options)}: {_reason(error)}") from error
    return found


def _reason(error: BaseException) -> str:
    return "not what Beam expects; see its message above" if isinstance(error, SystemExit) else str(error)
