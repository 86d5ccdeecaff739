"""Stateless maths on tensors: boxes, anchors, NMS, masks, PackOp, RoIAlign, conditional compute,
counting. Called as `boxes.iou(a, b)`: import the module, not the name.
"""
