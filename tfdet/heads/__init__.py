"""Maps to raw predictions: of points, anchors, proposals, regions and masks, packed or not."""
