"""The operators' side of a process: its figures, and whether it is alive and ready."""
