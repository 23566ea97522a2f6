"""Tables in text files of any dialect.

Begin at ``table``, which reads one by pandas. ``encoding`` finds its letters, ``delimiters`` what stands between cells
(CleverCSV decides where several would do), ``layout`` where names, units, totals and comments are, with the evidence
of ``headers``; ``numbers`` says what a cell means, ``records`` counts the cells of every row where one is odd.
"""
