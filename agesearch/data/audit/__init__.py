"""What is wrong with a dataset, or worth knowing: ``data check`` and the data card."""
