"""Data of the user's own.

Begin at ``arrays`` and ``files``, the two doors. ``columnar`` and ``text`` are what holds named columns, ``content``
takes it apart, ``labels`` and ``kinds`` see what its values are, ``assembling`` makes data of it; ``matching`` reads
new rows as those of a run.
"""
