"""Work that is ended early: by a timeout, by a retry, by a sibling that failed.

A cancelled coroutine raises at the await at which it stands, and once more at the next
one if it is cancelled again; what it must still do for others has to survive that.
"""
