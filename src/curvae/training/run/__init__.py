"""A run on disk.

Begin at ``run_folder``: one object for all that a folder holds. ``layout`` names its files, ``files`` reads and
writes them in this package's words, ``claim`` holds the folder while a run trains in it; the others are one file
each.
"""
