"""Services that live on a cluster: they outlive the command that deployed them, and the loss of a worker."""
