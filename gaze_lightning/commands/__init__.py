"""What the subcommands do. Part of the composition root."""
