"""The judge of the whole pipeline: it computes, from the input topics alone, what every output and every row must be.

Nothing here imports the product. Where product and oracle share a rule, each has its own implementation of it.
"""
