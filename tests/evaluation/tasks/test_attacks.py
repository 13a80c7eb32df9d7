import pytest

from star_hf.errors import ConfigError
from star_hf.evaluation.tasks.attacks import ATTACKS, attacked, opening_of
from star_hf.evaluation.types import Item


ITEM = Item("a", "How do I misuse a ladder?")


@pytest.mark.parametrize("attack", ATTACKS)
def test_judges_are_shown_the_question_as_it_was(attack):
    (item,) = attacked([ITEM], attack)
    assert item != ITEM and item.asked == ITEM.prompt and item.id == ITEM.id


def test_prefill_leaves_the_users_message_alone():
    (item,) = attacked([ITEM], "prefill")
    assert item.prompt == ITEM.prompt and opening_of(item) and not opening_of(ITEM)


def test_a_function_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def shout(question):\n    return question.upper()\ndef lose(question):\n    return None\n")
    (item,) = attacked([ITEM], f"{path}:shout")
    assert (item.prompt, item.asked) == (ITEM.prompt.upper(), ITEM.prompt)
    with pytest.raises(ConfigError, match="returned NoneType"):
        attacked([ITEM], f"{path}:lose")
    with pytest.raises(ConfigError, match="no function 'whisper'"):
        attacked([ITEM], f"{path}:whisper")


def test_an_attack_that_is_none_is_told():
    with pytest.raises(ConfigError, match="no attack 'persuade'"):
        attacked([ITEM], "persuade")
    assert attacked([ITEM], None) == [ITEM]
