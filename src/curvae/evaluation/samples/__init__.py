"""What a system makes, beside data.

Begin with ``quality``, which compares samples and reconstructions with held-out data by the ``features`` of them;
``imputation`` completes missing values.
"""
