"""`python -m sukkal.cli`, for where the command is not on the path."""

from sukkal.cli import main

main(prog_name="sukkal")
