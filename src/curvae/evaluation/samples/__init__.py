"""What a system makes, beside data.

Begin with ``quality``, which compares samples and reconstructions with held-out data by the ``features`` of them;
``conditionals`` says what is missing given what was observed, by draws that ``engines`` weigh; ``denoising``
what is behind noise; ``imputation`` draws it
by Markov chains.
"""
