"""A study and a careful loop by the clock on the wall: ``agesearch bench search --race``."""
