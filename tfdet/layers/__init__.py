"""Building blocks as Keras layers: convolutions with norms, fusion, packing, routers, RoIAlign.

Each is registered under the package "tfdet", with a name that no other has.
"""
