"""The SS-VAE beside its baselines, on the same labels and rows."""
