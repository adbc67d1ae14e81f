"""The experiments: one YAML file each, layered over the files in the folders beside them."""
