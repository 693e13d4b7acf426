"""HOW IT IS SHOWN: terminal and files."""
