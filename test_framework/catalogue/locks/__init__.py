"""Locks, flags and semaphores that are not given back, or given to the wrong one."""
