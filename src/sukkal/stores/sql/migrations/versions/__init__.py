"""The steps. Revisions are numbers of four digits, in order; none is ever changed or left out."""
