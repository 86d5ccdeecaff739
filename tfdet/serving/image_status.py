"""What became of an encoded image, the output `status` of `serving_encoded`."""

DETECTED = 0
DAMAGED = 1  # not a whole JPEG, PNG, GIF, BMP or WebP image
TOO_LARGE = 2  # its header claims more pixels than are decoded
