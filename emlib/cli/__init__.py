"""The command line: one file a command, each with its words (``add_arguments``) and its work (``run``)."""
