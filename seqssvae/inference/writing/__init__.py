"""How sequences are written: options, limits, noise, and which of several paths is taken."""
