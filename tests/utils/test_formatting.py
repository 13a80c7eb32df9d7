import pytest

from star_hf.utils.formatting import decimal, percent, readable


def test_shares_are_shown_in_percent_and_gains_with_their_sign():
    assert [percent(value) for value in (0.933, 0, 1, -0.0001, None)] == ["93.3", "0.0", "100.0", "0.0", "-"]
    assert [percent(value, sign=True) for value in (0.1, -0.1, -0.0001)] == ["+10.0", "-10.0", "+0.0"]
    assert [decimal(value) for value in (0.5, None)] == ["0.500", "-"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (1_234, "1,234"),
        (1_234.567, "1,234.57"),
        (0.00461196, "0.004612"),
        ("a\nb", "a\nb"),
        (["ü", 1], '["ü", 1]'),
    ],
)
def test_any_value_is_readable(value, text):
    assert readable(value) == text


def test_decimals_are_those_asked_for():
    assert readable(0.5, 3) == "0.500" and readable(2, 3) == "2"
