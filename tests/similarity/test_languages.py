"""Texts in many languages and scripts: what a person takes for the same is found, and nothing else is merged."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from star_hf import NotLike
from star_hf.audit import audit
from star_hf.deduplication.alike import find_alike
from star_hf.schema import COLLECTED, as_dataset
from star_hf.similarity.readable import counts_as, find_readable
from star_hf.similarity.texts import PreparedTexts
from star_hf.transforms.deduplicate import deduplicate
from star_hf.utils.folding import fold
from star_hf.utils.language import language_or_script
from star_hf.utils.text import row_id


OWN = json.loads(Path(__file__).with_name("languages.json").read_text(encoding="utf-8"))
SHORT = {"ta", "tr", "fi", "mixed"}
"""Languages with a pair whose words are too few to weigh them without other texts."""


def collected(texts, source="A"):
    rows = [{"id": f"{row_id(text)}{place}", "question": text, "source": source} for place, text in enumerate(texts)]
    return as_dataset(rows, COLLECTED)


def pairs(kind):
    return [(language, *pair) for language, found in OWN[kind].items() for pair in found]


def alone(one, other):
    """Whether two texts are merged if they are all there is."""
    return len(deduplicate(collected([one, other]), collected([]), embedding_threshold=None, progress=False).rows) == 1


def test_different_texts_are_never_merged_and_same_ones_are_found():
    assert [pair for pair in pairs("different") if alone(*pair[1:])] == []
    missed = [language for language, *pair in pairs("same") if not alone(*pair)]
    assert len(missed) == len(set(missed)) and set(missed) <= SHORT


def test_same_texts_are_found_in_one_corpus():
    """With other texts to weigh words by, none is missed. `removed` names a row of the pair or of its group."""
    same = pairs("same")
    rows = collected([text for _, *pair in (*same, *pairs("different")) for text in pair])
    gone = set(deduplicate(rows, collected([]), embedding_threshold=None, progress=False).removed["question"])
    assert [language for language, *pair in same if gone.isdisjoint(pair)] == []


def test_the_cases_of_five_languages(shared_data):
    cases = json.loads((shared_data.parent / "cases" / "languages.json").read_text(encoding="utf-8"))
    near, unrelated = ([pair for found in cases[kind].values() for pair in found] for kind in ("near", "unrelated"))
    assert sum(alone(*pair) for pair in near) == len(near) == 20
    assert sum(alone(*pair) for pair in unrelated) == 0 and len(unrelated) == 20
    for one, other in near:
        assert NotLike([one])({"question": other}) is False
    for one, other in unrelated:
        assert NotLike([one])({"question": other}) is True


@pytest.mark.parametrize(
    ("seen", "plain"),
    [
        ("re\u200bad my di\u00adary \ufeffnow", "read my diary now"),
        ("مـــرحبـا بك", "مرحبا بك"),
        ("р\u0430ypal login", "paypal login"),
        ("Ноw dо I snеаk intо thе сinеmа?", "How do I sneak into the cinema?"),
        ("вoйти в кинo бeз билeтa", "войти в кино без билета"),
        ("請告訴我這台電腦", "请告诉我这台电脑"),
        ("open the ɡate", "open the gate"),
        ("ｆｕｌｌ ﬁsh", "full fish"),
    ],
)
def test_what_a_reader_does_not_see_is_folded(seen, plain):
    assert fold(seen) == fold(plain) == plain


@pytest.mark.parametrize(
    "text",
    ["Москва, кот, оса и рост", "ο Γιάννης πήγε σπίτι", "let α and σ be real", "Kız sınırda", "как поставить Python"]
    + ["紙飛行機を作るニュース", "Їжак і яблуко", "ɖe nyuiɛ", "Ինչպես վերցնեմ", "naïve café", "a µm"],
)
def test_texts_in_their_own_alphabet_stay_as_they_are(text):
    assert fold(text).replace("纸飞行机を作るニュース", "紙飛行機を作るニュース").replace("μ", "µ") == text


def test_ids_do_not_depend_on_the_folded_form():
    assert row_id("re\u200bad") != row_id("read") and row_id("請") != row_id("请") and row_id("ﬁsh") == row_id("fish")


def test_runs_of_words_in_scripts_without_spaces():
    shared = "如何在不被邻居发现的情况下拿走他的包裹"
    texts = PreparedTexts.of(
        [
            f"从前有人问：{shared}？",
            f"她想知道，{shared}，然后呢",
            "どうすればいいですか、紙の本",
            "猫はどうすればいいですか",
        ]
    )
    grams = texts.ngrams(8)
    rows = [set(grams.ids[start:stop].tolist()) for start, stop in zip(grams.indptr, grams.indptr[1:], strict=False)]
    assert rows[0] & rows[1] and not rows[2] & rows[3] and not rows[0] & rows[2]
    short = PreparedTexts.of(["请告诉我怎么做一个纸飞机", "请告诉我怎么做一碗面条"]).ngrams(8)
    assert len(short.ids) == 0, "eight characters are no eight words"
    mixed = PreparedTexts.of(["one two three 水", "zero one two three", "one two", "水 three"]).ngrams(3)
    rows = [set(mixed.ids[start:stop].tolist()) for start, stop in zip(mixed.indptr, mixed.indptr[1:], strict=False)]
    assert rows[0] & rows[1] and not rows[2] and not rows[3]


@pytest.mark.parametrize(
    ("text", "group"),
    [("What is the tallest building?", "en"), ("Wie hoch ist das höchste Gebäude?", "de"), ("什么", "Chinese")]
    + [("紙を作る", "Japanese"), ("고양이가 밥을", "Korean"), ("Моя кошка не ест", "Cyrillic"), ("แมวไม่กิน", "Thai")]
    + [("请用Python写一个爬虫", "Chinese"), ("What does the sign 水 on the old door mean?", "en")],
)
def test_language_or_script(text, group):
    assert language_or_script(text) == group


class Blind:
    """Like an English model: English texts by their words, and one vector, with a little noise, for all others."""

    identity = "blind"

    def __call__(self, texts):
        return np.stack([self._vector(text) for text in texts]).astype(np.float32)

    def _vector(self, text):
        own = sum((self._drawn(word) for word in text.lower().split()), np.zeros(64))
        vector = own if text.isascii() else 20 * self._drawn("any") + own
        return vector / np.linalg.norm(vector)

    @staticmethod
    def _drawn(word):
        return np.random.default_rng(list(word.encode())).normal(size=64)


class Sighted(Blind):
    """Like a multilingual model: texts of any language by their characters."""

    identity = "sighted"

    def _vector(self, text):
        vector = sum((self._drawn(text[place : place + 2]) for place in range(len(text))), np.zeros(64))
        return vector / np.linalg.norm(vector)


THAI = [text for pair in OWN["different"]["th"] for text in pair]
ENGLISH = [
    f"How do I {verb} the {thing} of my own house?" for verb in ("open", "paint", "sell") for thing in "abcdefg"
]


@pytest.mark.parametrize("how", ["deduplicate", "alike"])
def test_an_encoder_is_not_used_for_texts_that_it_cannot_tell_apart(how, caplog):
    rows, held_out = collected([*ENGLISH[:4], *THAI]), collected(["What is it?", "ต้นไม้ต้นนี้สูงกี่เมตร"], "bench")
    options = {"encoder": Blind(), "tfidf_threshold": 1.0, "progress": False}
    if how == "deduplicate":
        result = deduplicate(rows, held_out, **options)
    else:
        result = find_alike(rows, held_out, **options).one_per_group()
    assert set(THAI) <= set(result.kept["question"])
    assert result.unread == {"Thai": len(THAI) + 1}
    assert "blind cannot tell texts in Thai (9 texts) apart, so these are compared by words alone" in caplog.text


def test_an_encoder_that_tells_them_apart_is_used():
    readable, unread = find_readable([*THAI, *ENGLISH], Sighted(), 0.95)
    assert readable.all() and unread == {}
    trusted = Blind()
    trusted.languages = ("Thai",)
    assert find_readable(THAI, trusted, 0.7)[0].all() and not find_readable(THAI, Blind(), 0.7)[0].any()


def test_what_is_measured_does_not_depend_on_the_order():
    texts = THAI * 20 + [f"{text} {number}" for text in THAI for number in range(20)]
    shuffled = random.Random(0).sample(texts, len(texts))
    assert find_readable(texts, Blind(), 0.7)[1] == find_readable(shuffled, Blind(), 0.7)[1] == {"Thai": len(texts)}


def test_paper_says_what_it_merges(caplog):
    result = deduplicate(
        collected(THAI), collected([]), profile="paper", encoder=Blind(), tfidf_threshold=1.0, progress=False
    )
    assert len(result.kept) == 1 and result.unread == {"Thai": len(THAI)}
    assert "cannot tell texts in Thai (8 texts) apart, but the profile `paper` compares them by it" in caplog.text


def test_not_like_compares_by_meaning_only_what_the_encoder_tells_apart(caplog):
    condition = NotLike(
        ["How do I open it?", *THAI[:4]], encoder=Blind(), embedding_threshold=0.7, tfidf_threshold=None, ngram=None
    )
    rows = Dataset.from_dict({"question": [*THAI[4:], "How do I open it ?", "Paint the house blue"]})
    assert rows.filter(condition, batched=True)["question"][:] == [*THAI[4:], "Paint the house blue"]
    assert "Thai" in caplog.text


def test_an_audit_finds_a_copy_in_chinese_and_says_what_it_did_not_compare(tmp_path):
    one, other = OWN["same"]["traditional"][0]
    file = tmp_path / "benchmark.jsonl"
    file.write_text(json.dumps({"question": one}) + "\n", encoding="utf-8")
    rows = Dataset.from_list([{"question": text} for text in (other, *THAI)])
    found = audit(rows, benchmark_files={"mine": file}, encoder=Blind(), embedding_threshold=0.7)
    checks = {finding.check: finding for finding in found.findings}
    assert not found.ok and checks["exact_contamination"].hits[0].row == 0
    assert "Thai (8 texts)" in checks["words_only"].summary and "embedding_duplicate" not in checks


@pytest.mark.parametrize(
    ("sizes", "language"),
    [
        ({"en": 5, "Latin": 2}, "en"),
        ({"en": 1, "Latin": 2}, "Latin"),
        ({"Thai": 9, "Latin": 2}, "Latin"),
        ({}, "Latin"),
    ],
)
def test_a_text_of_an_unclear_language_counts_as_one_of_the_commonest(sizes, language):
    assert counts_as(sizes) == language
