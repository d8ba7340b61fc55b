"""Weights from files that others or we wrote, without running anything in them."""

from .load import LoadReport, load_checkpoint

__all__ = ["LoadReport", "load_checkpoint"]
