"""A study on several hosts, which are namespaces of this machine, and what befalls them."""
