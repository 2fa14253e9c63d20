"""The sections of a report: each made from records, and told as HTML, Markdown and JSON alike."""
