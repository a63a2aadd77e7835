"""Traces, by OpenTelemetry and for OSProfiler. Nothing here is imported unless an operator asks for it."""
