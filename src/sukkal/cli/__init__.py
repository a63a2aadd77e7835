"""The command `sukkal`. Each command is a module of its own; parts that take long to load are imported there
when the command runs, so that help is instant."""

import click

from sukkal import __version__
from sukkal.cli.bench import bench
from sukkal.cli.serve import serve
from sukkal.cli.settings import settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sukkal", message="%(prog)s %(version)s")
def main() -> None:
    """A multi-tenant messaging service that speaks the OpenStack Messaging API v2."""


main.add_command(bench)
main.add_command(serve)
main.add_command(settings)
