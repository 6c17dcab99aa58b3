"""Watches what the service's own code does to what its users share.

``AccessTracker`` rewrites the modules of the packages it is given when they are
imported, so that each use of an attribute, a key or a shared variable is noted, and
finds the uses across an await that no order of the users explains: lost updates,
clobbered writes, loops over what changes. Opt-in, since it costs time.

``rewrite`` puts in the probes, ``probes`` says what an operation uses, ``ledger``
judges, ``wording`` tells. It sees no threads, no databases and no code of other
packages; ``docs/detect-access.md`` has the whole list.
"""

from test_framework.detect.access.tracker import AccessTracker

__all__ = ["AccessTracker"]
