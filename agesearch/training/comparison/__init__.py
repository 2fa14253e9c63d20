"""Methods compared: one backbone, several seeds, intervals over faces and seeds."""
