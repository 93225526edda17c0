"""The machine: paths, processes, signals, progress, fetched assets."""
