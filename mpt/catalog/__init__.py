"""From a name, a file or Python rows to a task."""
