"""Early stopping: learning curves, and the rule that is asked at each rung."""
