"""erray: videos of people to emotion predictions."""

__version__ = "0.1.0"
