"""The ``edgedet`` command: a table of subcommands, each imported only when it is used."""

from __future__ import annotations

import importlib
import sys

import click

from edgedet import __version__
from edgedet.errors import EdgedetError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "See it work: a live stream on a web page, with what comes with edgedet",
    "export": "Turn a checkpoint or ONNX file into a portable ONNX file",
    "run": "Detect in pictures, videos and cameras",
    "eval": "Score a model on labelled pictures",
    "sensitivity": "Rank the layers of a model by what each costs when it is quantised",
    "build": "Build a TensorRT engine from an exported model",
    "engines": "List, verify or delete built engines",
    "keygen": "Make a key that signs engines",
    "verify": "Tell whether an engine may be loaded",
    "inspect": "Show what a model file holds",
    "cameras": "List cameras, their formats and which ways of capture work",
    "doctor": "Show what is installed, what is missing and how to add it",
}
"""Command -> one line of help; the command itself is ``edgedet.cli.<name>_command.command``."""


class LazyGroup(click.Group):
    """A group that knows its commands' one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of the command that is being called."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"edgedet.cli.{cmd_name}_command").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from their one-line help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgedet")
def group() -> None:
    """Trained detectors and segmenters on embedded accelerators."""


def main() -> None:
    """Run the command line; print errors as one message, without a traceback.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 accuracy gate, 130 interrupted.
    """
    try:
        sys.exit(group(standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except EdgedetError as error:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Interrupted", err=True)
        sys.exit(130)
