"""Whole models, one file a family. Each registers its names when it is imported, which
`tfdet.registry` does for all files in here. `base.Detector` is what they have in common.
"""
