"""What Snakemake has built and DVC has recorded, and how to keep the two in step."""
