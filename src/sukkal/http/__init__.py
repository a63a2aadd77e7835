"""The HTTP API: decode, call the dispatcher, render."""
