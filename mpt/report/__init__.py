"""The report of a run: what is kept for it while the run is made, and the page that shows it."""
