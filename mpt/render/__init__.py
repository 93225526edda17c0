"""What people look at: HTML pages, plots, console tables."""
