"""Tasks one after another: learners, which task a text is of, scores and results."""
