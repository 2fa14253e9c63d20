"""A study that lies behind a URI: worked on in local folders, and published there."""
