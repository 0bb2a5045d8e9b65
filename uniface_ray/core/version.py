"""The project's version, also where the package is used without being installed."""

__version__ = "0.1.0"
