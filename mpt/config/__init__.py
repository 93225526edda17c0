"""The options of runs, and the YAML files that contain them."""
