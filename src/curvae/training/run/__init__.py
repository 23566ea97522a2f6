"""A run on disk: ``folder`` is the idea, one object for all that a run folder holds; the other files are its parts."""
