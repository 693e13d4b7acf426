"""Sources of energy readings behind one small protocol."""
