"""Sukkal: a multi-tenant messaging service that speaks the OpenStack Messaging API v2."""

__version__ = "0.1.0"
