"""The table of methods and tasks: its entries, tuned rates, estimates with intervals, figures."""
