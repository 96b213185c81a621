"""Settings and errors of Apache Beam (extra ``beam``): Dataflow, Flink, Spark, or the cores of this machine."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flood_distill import quiet
from flood_distill.errors import UserError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_DIRECT_RUNNER = "DirectRunner"
# Without it, Beam's DirectRunner fetches a program, Prism, from GitHub and runs that. It also allows triggers that may
# lose data; nothing of ours has triggers.
_WITHOUT_PRISM = "--allow_unsafe_triggers"
_LONGEST_REASON = 500  # characters; Beam's messages carry the tracebacks of all workers


@dataclasses.dataclass(frozen=True)
class Beam:
    """How to run a pipeline.

    Attributes:
        runner: ``DirectRunner``, ``DataflowRunner``, ``FlinkRunner``, ``SparkRunner`` or another that Beam knows.
        options: options of the pipeline, ``NAME=VALUE`` each.
        input_dir: where the workers find the input, if not under the path that this process knows.
        staging_dir: a folder that this process and the workers can write to, if they do not share the output folder.
    """

    runner: str
    options: tuple[str, ...] = ()
    input_dir: str | None = None
    staging_dir: str | None = None


def pipeline_options(runner: str, options: Sequence[str] = ()) -> "PipelineOptions":
    """Returns the options of a pipeline, with what its runner needs besides.

    Args:
        runner: ``DirectRunner``, ``DataflowRunner``, ``FlinkRunner``, ``SparkRunner`` or another that Beam knows.
        options: each ``NAME=VALUE``, or ``NAME`` for a switch; names as in Beam's documentation.

    Raises:
        UserError: if Apache Beam is not installed, the runner is unknown or an option has a wrong value.
    """
    try:
        with quiet.only_errors():
            from apache_beam.options.pipeline_options import PipelineOptions
            from apache_beam.runners import create_runner
    except ImportError as error:
        raise UserError(f"--beam_runner={runner}: needs Apache Beam: pip install 'flood_distill[beam]'") from error
    settings = [f"--{option.lstrip('-')}" for option in options]
    if runner == _DIRECT_RUNNER:
        settings.append(_WITHOUT_PRISM)
    said = io.StringIO()
    try:
        create_runner(runner)
        with contextlib.redirect_stderr(said):
            found = PipelineOptions(settings, runner=runner)
            found.get_all_options()
    except (ImportError, ValueError) as error:
        raise UserError(f"--beam_runner={runner}: {_reason(str(error))}") from error
    except SystemExit as error:  # argparse met a wrong value
        raise UserError(f"--beam_options: {said.getvalue().strip().rsplit('error: ')[-1]}") from error
    return found


@contextlib.contextmanager
def failures(runner: str | None) -> Iterator[None]:
    """Turns whatever makes a pipeline fail into one line; without a runner nothing changes.

    Raises:
        UserError: in place of any error but `UserError` and `OSError`.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        if runner is None:
            raise
        raise UserError(f"--beam_runner={runner}: {_reason(str(error))} (--verbosity=1 shows all)") from error


def _reason(message: str) -> str:
    """Returns a message on one line; of one with tracebacks the last line, which names the innermost error."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if any("Traceback" in line for line in lines):
        lines = lines[-1:]
    return " ".join(lines)[:_LONGEST_REASON]
