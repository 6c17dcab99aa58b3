"""State of one request in a place that all requests share.

The service object, the module, the thread, the log scope and the client are made once;
what one request leaves there before an await, another replaces during it.
"""
