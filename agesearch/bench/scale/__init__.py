"""``agesearch bench scale``: faces by the hundred thousand, from shards to an evaluated student."""
