"""The folder of a run, its checkpoints and figures, and the Hugging Face hub."""
