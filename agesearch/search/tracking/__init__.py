"""Loggers beside a study: MLflow and TensorBoard."""
