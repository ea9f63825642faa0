"""What is done with a trained model: decode, classify, encode, evaluate."""
