from tfdet.data import image_names


def test_every_file_is_of_one_kind_at_most():
    assert image_names.is_image("a/B.JPG") and not image_names.is_other_picture("a/B.JPG")
    assert image_names.is_other_picture("x.tiff") and not image_names.is_image("x.tiff")
    assert not image_names.is_image("a/._x.jpg") and not image_names.is_other_picture("._x.tif")
    assert not image_names.is_image("x.txt") and not image_names.is_other_picture("x.txt")
    assert not set(image_names.ENDINGS) & set(image_names.OTHER_ENDINGS)
