"""Cheap classifiers, pooled by cross-validation: what q(y | x) starts from."""
