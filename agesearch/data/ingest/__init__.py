"""From a source's records to a dataset: survey, parallel work, assembly."""
