"""Proofs by states: of users who do the same, so that who of them is where is no matter.

``SymmetricSearch`` follows the branches of each state once; ``require_symmetry`` refuses
what it cannot judge. Not for faults, nor for users who are told apart by their numbers.
"""

from test_framework.explore.symmetry.search import SymmetricSearch, require_symmetry

__all__ = ["SymmetricSearch", "require_symmetry"]
