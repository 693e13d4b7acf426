"""WHAT IT MEANS: pure numpy and scipy over records."""
