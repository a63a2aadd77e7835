"""Notifications to subscribers outside of the service: when they are tried, and how each kind is reached."""
