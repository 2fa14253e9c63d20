"""Clusters that outlive a command: starting one on this machine, and work that is handed to one as a job."""
