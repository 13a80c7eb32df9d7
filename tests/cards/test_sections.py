"""What others wrote, such as the name of a source or a model, is text in a card and never markup."""

from star_hf.utils.formatting import as_code, in_markdown


def test_markup_is_shown_as_text_on_one_line():
    assert in_markdown("<img src=x>\n| [a](b) & *`c`*") == r"&lt;img src=x&gt; \| \[a\](b) &amp; \*\`c\`\*"
    assert as_code("a`b\n|c") == r"`a'b \|c`"
    assert as_code("<!-- star_hf: fields -->") == "&lt;!-- star\\_hf: fields --&gt;", "no comment that ends a section"
