"""What a run would take on chips that are not here: its train step, compiled ahead of time."""
