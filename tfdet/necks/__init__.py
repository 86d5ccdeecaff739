"""A dict of maps to another: FPN, BiFPN and the other topologies, YOLOv7's."""
