"""The commands: what each is asked on the command line, and what it tells."""
