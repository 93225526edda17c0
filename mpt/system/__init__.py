"""Services of the machine: paths, processes, signals, progress bars and downloaded assets."""
