"""Which student of a front is picked, and what is noise among its errors."""
