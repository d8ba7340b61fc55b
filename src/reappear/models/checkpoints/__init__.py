"""Weights from files that others or we wrote, without running anything in them."""

from .load import LoadReport, load_checkpoint
from .read import load_plain, read_tensors, require_finite

__all__ = ["LoadReport", "load_checkpoint", "load_plain", "read_tensors", "require_finite"]
