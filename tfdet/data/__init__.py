"""Files to batches: readers of COCO, VOC, YOLO, TFRecord and the built-in `shapes`, augmentations,
and the pipeline. `tfdet.open_dataset` is the way in.
"""
