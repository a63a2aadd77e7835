"""Where messages and records are kept: one contract, one module or package for each engine."""
