"""What a run shows: pictures, nearest words, similarities."""
