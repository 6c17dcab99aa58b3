"""Recording clients: every call of a user becomes an operation of the history.

``http`` and ``websocket`` are what users speak with, over ``routes`` that decide
whose requests share a connection; ``sql`` and ``redis`` read what a service keeps.
They record; they judge nothing.

Each is imported by its module: a worker of the service under test needs one of them and
not the others.
"""
