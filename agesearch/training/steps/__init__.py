"""What an epoch's steps need besides the task: the other workers, averaged weights."""
