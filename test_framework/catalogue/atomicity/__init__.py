"""Read, await, act: what was read is no longer true when it is acted upon."""
