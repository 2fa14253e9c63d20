"""The command line: one file a verb group, options and printing only."""
