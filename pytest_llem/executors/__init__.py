"""WHERE experiments run, seen from the host."""
