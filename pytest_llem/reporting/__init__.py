"""HOW IT IS SHOWN. The room has two doors: `terminal` returns lines of text, `export` writes files."""
