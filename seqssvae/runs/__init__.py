"""The folder of a run, its checkpoints and metrics, and the Hugging Face hub."""
