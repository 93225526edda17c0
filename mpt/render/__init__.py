"""Output for people: HTML pages, plots and tables on the console."""
