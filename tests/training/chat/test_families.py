"""The table of chat templates in the docs."""

from pathlib import Path

from star_hf.training.chat.families import templates_table


def test_the_table_in_the_docs_is_what_is_found_today():
    docs = Path(__file__).resolve().parents[3] / "docs" / "chat_templates.md"
    assert docs.read_text(encoding="utf-8").endswith(f"\n\n{templates_table()}\n")
