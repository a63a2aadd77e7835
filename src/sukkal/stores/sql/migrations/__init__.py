"""How the tables came to be what they are: Alembic's environment, and one module for each step."""
