from tfdet.errors import UserError


def test_it_is_a_value_error_whose_text_is_the_sentence():
    error = UserError("image_size must be at least 8, got 4")
    assert isinstance(error, ValueError)
    assert str(error) == "image_size must be at least 8, got 4"
