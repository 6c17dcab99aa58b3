"""Proofs by classes: of orders that differ only in steps that touch nothing in common.

``shared`` and ``access`` say what steps touch, ``Reduction`` runs one order of each
class. Not for time, which is no access, and not for faults.
"""

from test_framework.explore.reduction.classes import Reduction
from test_framework.explore.reduction.shared import access, shared

__all__ = ["Reduction", "access", "shared"]
