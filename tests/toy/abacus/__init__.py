"""A backend in a package of its own: an engine that counts beads. It starts in milliseconds and can misbehave.

Tests of the plugin's behaviour use it where the model does not matter; what it does is real: it runs in a real
engine process, burns real CPU time, and dies, hangs and runs out of memory for real.
"""
