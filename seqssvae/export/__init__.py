"""Other doors: ONNX and scikit-learn."""
