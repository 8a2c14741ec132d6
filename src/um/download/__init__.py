"""From the outside world to data/: what a dataset's sources.yaml lists, fetched, checked and unpacked."""
