"""The most that is read, so that no file can ask for a machine's whole memory."""

# 100 megapixels are 300 MB decoded: more than any camera, less than what a 437 KB PNG can claim.
MAX_IMAGE_PIXELS = 100_000_000
