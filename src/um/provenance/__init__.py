"""Snakemake does the work, DVC keeps the ledger: what each knows, and how one is told of the other."""
