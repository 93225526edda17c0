"""What a run is told: the options, and the YAML files that hold them."""
