"""Services in small, each with a defect and as it should be; run with probes.

Each module has ``PAIRS``: what all users share, what a user does wrong, what a user
does right, and the rule that the wrong one breaks.
"""
