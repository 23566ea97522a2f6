"""The kinds of linearization, by what they know of the decoder.

Begin with ``gram``, the default of ReLU decoders with a constant information: nothing of the size of the data.
``layerwise`` serves chains of layers, ``generic`` any decoder, ``matrix_free`` large latent spaces,
``shared_information`` searches with one information for all data. ``derivatives`` has the ways to the derivatives of
any decoder, ``differentiable`` finds the one that a decoder needs; ``compiled_problem`` is what C reads of a model.
"""
