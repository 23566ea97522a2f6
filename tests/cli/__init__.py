"""The command line, from its words to its exit status; a package, as its conftest shares a name with that above."""
