"""Steps, the loop around them, and from a file to a finished run."""
