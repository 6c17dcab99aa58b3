"""Programs that must do with probes what they do without, to the last traceback."""
