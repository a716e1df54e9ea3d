"""The command `ft`: its list of commands, and the edge where every error becomes three lines and an exit code."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from finetune import __version__
from finetune.cli import (
    catalogue,
    data,
    estimates,
    exports,
    hosted,
    jobs,
    models,
    plans,
    queue,
    recipes,
    releases,
    serve,
)
from finetune.cli.exits import DETACHED
from finetune.cli.output import complain, out, say
from finetune.errors import FtError, InternalError, Problem, StateError
from finetune.process import settle

app = typer.Typer(
    name="ft",
    help="One recipe, any fine-tuning provider: submit, queue, train, register and serve tuned models.",
    epilog="Start with `ft init`, then `ft submit recipe.yaml --follow`. Every error code: `ft explain CODE`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        out(f"ft {__version__}")
        raise typer.Exit


@app.callback()
def _ft(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


#: In the order of a first use; `ft --help` shows them so.
_COMMANDS: tuple[tuple[str, Callable[..., object]], ...] = (
    ("init", recipes.init),
    ("validate", recipes.validate),
    ("plan", plans.plan),
    ("estimate", estimates.estimate),
    ("submit", jobs.submit),
    ("retarget", plans.retarget),
    ("import", plans.take_in),
    ("costs", estimates.costs),
    ("status", jobs.status),
    ("watch", jobs.watch),
    ("logs", jobs.logs),
    ("wait", jobs.wait),
    ("cancel", jobs.cancel),
    ("queue", queue.queue),
    ("workers", queue.workers),
    ("pause", queue.pause),
    ("resume", queue.resume),
    ("priority", queue.priority),
    ("retry", queue.retry),
    ("eval", releases.evaluate),
    ("promote", releases.promote),
    ("rollback", releases.rollback),
    ("chat", models.chat),
    ("providers", hosted.providers),
    ("expiring", catalogue.expiring),
    ("files", hosted.files),
    ("sandbox", hosted.sandbox),
    ("serve", serve.serve),
    ("up", serve.up),
    ("worker", serve.worker),
    ("doctor", serve.doctor),
    ("schema", recipes.schema),
    ("explain", recipes.explain),
)
for _name, _command in _COMMANDS:
    app.command(_name)(_command)
models.app.command("fetch")(exports.fetch)
models.app.command("export")(exports.export)
models.app.command("gc")(exports.gc)
models.app.command("retire")(releases.retire)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(catalogue.app, name="catalogue")


def run() -> None:
    """The entry point: never shows a traceback, always exits with a number of `exits`."""
    _mend_streams()
    settle()
    sys.exit(guarded(app))


def _mend_streams() -> None:
    """Printing never fails for a character that the terminal lacks, nor for a stream that the shell closed (`>&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))
        elif mode == "w" and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def guarded(command: Callable[[], object]) -> int:
    """Call it and turn whatever it raises into lines on stderr and an exit code."""
    try:
        # Typer itself ends with SystemExit, also after its own usage errors (2).
        command()
        return 0
    except FtError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped")
        return DETACHED
    except Exception as error:  # noqa: BLE001 -- the last net: a user never sees a traceback
        complain(_unexpected(error))
        return InternalError.exit_code


def _unexpected(error: Exception) -> FtError:
    """A full disk or a bug; the traceback goes to a file when there is a place for one."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        place = f" ({error.filename})" if error.filename else ""
        return StateError(
            Problem(
                code="E510",
                what=f"the system refused: {error.strerror or error}{place}",
                why="a file or folder could not be read or written",
                fix="mend the permissions or make room, and repeat the command",
            )
        )
    return InternalError(
        Problem(
            code="E999",
            what=f"a fault in ft: {type(error).__name__}: {error}",
            why=_keep_traceback(),
            fix="please report it with that file; your jobs are safe in the database",
        )
    )


def _keep_traceback() -> str:
    import traceback  # these only on this path, for the sake of the start-up time
    from datetime import datetime

    from finetune.settings import from_environment

    try:
        folder = from_environment().logs_dir
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"fault-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        path.write_text(traceback.format_exc())
    except Exception:  # noqa: BLE001 -- the fault may be in the settings themselves, which are read again here
        return "its traceback could not be written anywhere"
    return f"its traceback is in {path}"
