from tfdet.errors import UserError, first_line


def test_it_is_a_value_error_whose_text_is_the_sentence():
    error = UserError("image_size must be at least 8, got 4")
    assert isinstance(error, ValueError)
    assert str(error) == "image_size must be at least 8, got 4"


def test_the_reason_of_another_error_is_one_line_and_never_none():
    assert first_line(OSError("no HDF5\nat 0x1")) == "no HDF5"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("\nmore")) == "ValueError"
