"""How to learn it: one YAML file per run."""
