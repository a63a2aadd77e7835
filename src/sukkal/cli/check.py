"""`sukkal check`: would the service start?"""

import os
import sys
from pathlib import Path

import click

from sukkal import config

MARKS = {True: "ok  ", False: "BAD ", None: "note"}


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help=f"TOML file of settings. [default: the one named by {config.FILE_VARIABLE}, if any]",
)
def check(file: Path | None) -> None:
    """Tell whether this release would start, before you restart or upgrade.

    Settings are read from the file and the environment as `sukkal serve` reads them. Nothing is changed: it
    looks whether the store can be reached, which version its schema has and whether this release knows it,
    and whether the key fits what was encrypted. While a server has the embedded store open, its key is not
    checked.

    Exit status: 0 when nothing is in the way, 1 when something is, 2 for a bad setting.
    """
    try:
        settings = config.load(file, os.environ, {})
    except config.BadSetting as exc:
        click.echo(f"{MARKS[False]}  settings: {exc}")
        sys.exit(2)
    from sukkal import checks  # slow to import

    found = checks.check(settings)
    for finding in found:
        click.echo(f"{MARKS[finding.well]}  {finding.text}")
    sys.exit(1 if any(finding.well is False for finding in found) else 0)
