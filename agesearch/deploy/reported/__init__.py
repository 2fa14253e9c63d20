"""What a report is made of: its models, and the records that the verbs of ``measure`` make of them."""
