"""Models in the forms that phones, boards and browsers run: a file a format, and the table of them."""
