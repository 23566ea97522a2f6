"""Files of other programs: Parquet, Excel, AnnData, Matrix Market, FITS, MATLAB, archives of arrays.

Begin at ``file_content``, what a file holds; each other file opens files of one family by the library that is well
kept for them, imported when one is opened. None decides what columns are: ``curvae.data.tables`` does, whatever they
came in.
"""
