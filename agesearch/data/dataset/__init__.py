"""A dataset on disk: schema, shards, selection of rows, splits, and how it is written and published."""
