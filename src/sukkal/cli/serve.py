"""`sukkal serve`: run the service in the foreground."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from sukkal import config
from sukkal.errors import AddressInUse, StoreInUse, StoreUnavailable


def _settings_as_flags(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each setting that has a flag. Values stay texts: `config.load` reads and judges them."""
    for setting in reversed(config.describe()):
        if setting.flag:
            option = click.option(
                setting.flag,
                setting.name,
                metavar="|".join(setting.choices) or setting.name.rpartition("_")[2].upper(),
                help=f"{setting.description} [default: {setting.default}]".replace("`", ""),
            )
            command = option(command)
    return command


@click.command()
@_settings_as_flags
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help=f"TOML file of settings. [default: the one named by {config.FILE_VARIABLE}, if any]",
)
def serve(file: Path | None, **flags: Any) -> None:
    """Run the service until it is told to stop.

    SIGTERM and Ctrl-C let requests in flight finish. Every setting, also those without a flag, can stand in
    the file or in the environment: `sukkal settings` lists them.

    Exit status: 0 after an orderly stop, 1 when the store cannot be used, 2 for a bad setting.
    """
    try:
        settings = config.load(file, os.environ, flags)
        from sukkal import server  # here, since it is slow to import and help does not need it

        sys.exit(server.serve(settings))
    except config.BadSetting as exc:
        _give_up(exc, status=2)
    except (AddressInUse, StoreInUse, StoreUnavailable) as exc:
        _give_up(exc, status=1)


def _give_up(reason: Exception, *, status: int) -> NoReturn:
    click.echo(f"sukkal: {reason}", err=True)
    sys.exit(status)
