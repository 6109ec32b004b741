"""The version, where files of the library can read it without importing all of it."""

from __future__ import annotations

__version__ = "0.2.0"
