"""The most that is read or made, so that no file can ask for a machine's whole memory or time.

Each is far above what detectors are trained with.
"""

# 100 megapixels are 300 MB decoded: more than any camera, less than what a 437 KB PNG can claim.
MAX_IMAGE_PIXELS = 100_000_000
MAX_IMAGE_SIDE = 1 << 20  # as annotated
MAX_IMAGE_BYTES = 1 << 30  # of an encoded image: an uncompressed BMP of so many pixels has a third
MAX_CANVAS_PIXELS = 1 << 26  # of `model.image_size`: 8192 x 8192
MAX_BOXES = 10_000  # of a training image; the fullest of COCO has 93, of a mosaic of nine 500
MAX_WINDOW_MB = 1 << 20  # of `data.window_mb`: more than any machine has memory
MAX_CLASSES = 100_000
MAX_COUNT = 1 << 20  # of channels, layers and the like in a model's configuration
MAX_THREADS = 1024  # of a worker of a search
MAX_SHAPES_IMAGES = 100_000  # of the built-in set, which takes 0.2 ms each to lay out

MAX_FOLDER_FILES = 10_000_000  # of a data set without lists: the largest public ones have 2 million
MAX_TEXT_BYTES = 1 << 28  # lists of files, labels, annotations of one image
MAX_ANNOTATIONS_BYTES = 1 << 34  # of a data set in one file: COCO has 450 MB, Objects365 5 GB
MAX_YAML_BYTES = 1 << 20  # a second or two of PyYAML for each; recipes have some thousand
MAX_YAML_VALUES = 100_000  # with each alias counted as what it repeats
MAX_DEPTH = 50  # values within values
MAX_NUMBER_LETTERS = 100
MAX_NAME_LETTERS = 200  # of a class

MAX_EXPRESSION_LETTERS = 2000
MAX_EXPRESSION_SECONDS = 2.0
