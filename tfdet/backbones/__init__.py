"""Images to a dict of maps, {"P3": [B, H/8, W/8, C], ...}. `catalog.make_backbone` makes one by its
name.
"""
