"""Export to ONNX, and the scikit-learn estimator."""
