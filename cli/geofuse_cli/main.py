"""Where the command line starts: finds the command, sets up logging, turns errors into one line and an exit code.

Exit codes: 0 done, 1 internal error, 2 bad usage or bad input, 3 some runs of several failed, 130 interrupted, 141 the reader of
stdout went away.

Nothing here imports geofuse, xarray or torch before a command is run, so that ``geofuse --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import click

DONE, INTERNAL_ERROR, BAD_INPUT, INTERRUPTED, READER_GONE = 0, 1, 2, 130, 141

# The one-line help stands here, so that the list of commands is shown without importing any; a test holds it to each command's own.
COMMANDS = {
    "run": "Fuse a coarse hyperspectral image with a fine multispectral one.",
    "batch": "Fuse many scenes: a manifest, or the DFC2018 Houston files.",
    "coregister": "Find how a hyperspectral image lies on a fine one, and put it right.",
    "demo": "Write a sample scene: a pair, its reference and a cloud mask.",
    "info": "Print size, grid, CRS, wavelengths, no data and scale of an image.",
    "srf": "List and show the spectral responses of known sensors.",
    "simulate": "Make a test pair from one image (Wald's protocol).",
    "estimate": "Estimate the spectral response and the PSF from a pair of images.",
    "evaluate": "Measure a fused image against its reference or its sources.",
    "benchmark": "Compare methods on the same inputs: scores, seconds, memory.",
    "train": "Train mossfuse, ddpmfus or ssdiff on scenes, for 'run --weights'.",
    "report": "Write a page that shows a fused image, its inputs and its errors.",
    "doctor": "Check the installation: versions, data paths, devices, threads, memory.",
}


@dataclass
class Settings:
    """What the options that every command takes have set."""

    verbosity: int = 0
    debug: bool = False


class CommandGroup(click.Group):
    """The commands, each imported when it is used and given the options that all commands take."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, the main one first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"geofuse_cli.commands.{cmd_name}").command
        _add_shared_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _add_shared_options(command: click.Command) -> None:
    """Add ``--verbose`` and ``--debug`` to a command and its subcommands, once."""
    if not any(param.name == "debug" for param in command.params):
        command.params += shared_options()
    for sub in command.commands.values() if isinstance(command, click.Group) else ():
        _add_shared_options(sub)


def shared_options() -> list[click.Option]:
    """Return the options that may stand before and after the command's name."""
    verbose = click.Option(
        ["-v", "--verbose"], count=True, expose_value=False, callback=_set_verbosity, help="Say more; twice for everything."
    )
    debug = click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show a traceback when something goes wrong."
    )
    return [verbose, debug]


def _set_verbosity(ctx: click.Context, param: click.Parameter, value: int) -> None:
    settings = ctx.ensure_object(Settings)
    settings.verbosity = max(settings.verbosity, value)
    set_up_logging(settings.verbosity)


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    settings = ctx.ensure_object(Settings)
    settings.debug = settings.debug or value


cli = CommandGroup(
    name="geofuse",
    help="Fuse a coarse hyperspectral image with a fine multispectral one into a fine hyperspectral image, ready for GIS.",
    params=[*shared_options()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 132},
)
cli = click.version_option(package_name="geofuse", message="geofuse %(version)s")(cli)


class _OneLine(logging.Handler):
    """Writes each record as one line on whatever stderr is at that moment, so that a progress bar may stand below it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        print(f"geofuse: {record.levelname.lower()}: {one_line(record.getMessage())}", file=sys.stderr)


def set_up_logging(verbosity: int) -> None:
    """Show geofuse's warnings; with 1 its progress and other libraries' warnings; with 2 or more everything from geofuse."""
    root = logging.getLogger()
    if not any(isinstance(handler, _OneLine) for handler in root.handlers):
        root.addHandler(_OneLine())
    logging.captureWarnings(True)
    root.setLevel((logging.CRITICAL, logging.WARNING, logging.INFO)[min(verbosity, 2)])
    for name in ("geofuse", "geofuse_cli"):
        logging.getLogger(name).setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])


def one_line(text: object) -> str:
    """Collapse a message onto one line."""
    return " ".join(str(text).split())


def run(arguments: Sequence[str]) -> int:
    """Run the command line with ``arguments`` (without the program's name) and return its exit code."""
    settings = Settings()
    try:
        with cli.make_context("geofuse", list(arguments), obj=settings) as context:
            cli.invoke(context)
            sys.stdout.flush()
        return DONE
    except Exception as error:
        return _failure(error, settings)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _failure(error: Exception, settings: Settings) -> int:
    """Say what went wrong in one line on stderr and return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, click.Abort):  # Ctrl-C or Ctrl-D at a prompt
        return _fail("interrupted", INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        # What is still buffered has nowhere to go; the interpreter must not try again when it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    if settings.debug and not isinstance(error, click.ClickException):
        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "geofuse"
        return _fail(f"error: {error.format_message().rstrip('.')}; see '{path} --help'", BAD_INPUT)
    from geofuse.errors import GeofuseError

    if isinstance(error, GeofuseError):
        return _fail(f"error: {error}", BAD_INPUT)
    hint = "" if settings.debug else "; run again with --debug for the traceback"
    return _fail(f"internal error: {type(error).__name__}: {error}{hint}", INTERNAL_ERROR)


def _fail(message: str, code: int) -> int:
    """Print one line on stderr and return ``code``."""
    print(f"geofuse: {one_line(message)}", file=sys.stderr)
    return code


def main() -> None:
    """Run the command line and leave with its exit code (the console script ``geofuse``)."""
    sys.exit(run(sys.argv[1:]))
