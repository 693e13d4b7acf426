"""BESIDE THE MODEL: the resident server and the engine process it starts. Never imports pytest."""
