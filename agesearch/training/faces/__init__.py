"""Where the batches of a training come from: the plan of an epoch, faces in memory, faces in shards."""
