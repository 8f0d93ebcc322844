"""The page of all options matches the code."""

from tools import options_page


def test_the_page_is_up_to_date() -> None:
    remedy = "python -m tools.options_page"
    assert options_page.PAGE.read_text(encoding="utf-8") == options_page.page(), remedy
