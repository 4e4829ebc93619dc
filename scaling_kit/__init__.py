"""Django apps that take a project from one process to many processes on many machines."""

__version__ = "0.1.0"
