"""``agesearch bench monitoring``: whether every expression of the monitoring's files returns data."""
