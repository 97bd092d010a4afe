"""Bugs that are planted into workers from outside, to see that the chaos run would notice them in the product."""
