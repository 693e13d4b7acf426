"""Parts of a machine that a test machine may lack, real enough for unmodified clients."""
