"""Finds or makes the task that a name, a task file or rows in Python stand for."""
