import math
import pickle
import random

import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from star_hf import NotLike, deduplicate
from star_hf.errors import ConfigError
from star_hf.utils.text import row_id
from word_encoder import WordEncoder


WORDS = [f"word{n}" for n in range(400)]


def as_rows(texts):
    return Dataset.from_dict({"id": [row_id(t) for t in texts], "question": texts, "source": ["s"] * len(texts)})


@pytest.fixture(scope="module")
def corpus():
    """Held-out items, and rows of which a third share a part with one."""
    rng = random.Random(0)

    def text(least, most):
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    items = [text(3, 30) for _ in range(300)]
    rows = [text(3, 30) for _ in range(400)]
    for place in range(0, 400, 3):
        item = rng.choice(items).split()
        rows[place] = " ".join(item[: rng.randint(1, len(item))] + rng.choices(WORDS, k=rng.randint(0, 6))).upper()
    return as_rows(rows), as_rows(items)


def contaminated(rows, held_out, measures, **options):
    removed = deduplicate(rows, held_out, progress=False, **options).removed
    return {row["id"] for row in removed if row["reason"] in {f"{name}_contamination" for name in measures}}


def dropped(rows, condition, **options):
    return set(rows["id"]) - set(rows.filter(condition, **options)["id"])


def test_shared_words_and_equal_texts_are_found_as_in_deduplicate(corpus):
    rows, held_out = corpus
    found = contaminated(rows, held_out, ("exact", "ngram"), tfidf_threshold=1.0, embedding_threshold=None)
    assert dropped(rows, NotLike(held_out, tfidf_threshold=None)) == found and len(found) > 30


def test_tfidf_is_the_cosine_of_scikit_learn_with_weights_of_the_held_out_items(corpus):
    rows, held_out = corpus
    texts = [*held_out["question"], *rows["question"]]
    fitted, counter = TfidfVectorizer().fit(held_out["question"][:]), CountVectorizer()
    counts = counter.fit_transform(texts)
    known, rarest = fitted.vocabulary_, 1 + math.log(1 + len(held_out))
    weight = [fitted.idf_[known[term]] if term in known else rarest for term in counter.get_feature_names_out()]
    vectors = normalize(counts.multiply(weight).tocsr())
    highest = (vectors[len(held_out) :] @ vectors[: len(held_out)].T).max(axis=1).toarray().ravel()
    expected = {row for row, cosine in zip(rows["id"], highest, strict=True) if cosine >= 0.5}
    exact = dropped(rows, NotLike(held_out, ngram=None, tfidf_threshold=None))
    assert dropped(rows, NotLike(held_out, ngram=None, tfidf_threshold=0.5)) == expected | exact
    assert 30 < len(expected) < len(rows)


def test_a_cosine_that_equals_the_threshold_is_too_high():
    rows, options = Dataset.from_dict({"question": ["lock"]}), {"ngram": None}
    assert len(rows.filter(NotLike(["key lock"], tfidf_threshold=math.sqrt(0.5), **options))) == 0
    assert len(rows.filter(NotLike(["key lock"], tfidf_threshold=0.7072, **options))) == 1
    encoder = WordEncoder()
    cosine = float(encoder(["lock"])[0] @ encoder(["key lock"])[0])
    options |= {"tfidf_threshold": None, "encoder": encoder}
    assert len(rows.filter(NotLike(["key lock"], embedding_threshold=cosine, **options))) == 0
    assert len(rows.filter(NotLike(["key lock"], embedding_threshold=cosine + 0.01, **options))) == 1


def test_batches_and_processes_do_not_matter(corpus):
    rows, held_out = corpus
    alone = dropped(rows, NotLike(held_out))
    assert alone == dropped(rows, NotLike(held_out), batched=True, batch_size=37)
    assert alone == dropped(rows, NotLike(held_out), batched=True, num_proc=2)
    assert alone == dropped(rows.shuffle(seed=1), NotLike(held_out["question"][:]), batched=True)


def test_embeddings_are_compared_where_asked_for(corpus):
    rows, held_out = corpus
    condition = NotLike(held_out, ngram=None, tfidf_threshold=None, embedding_threshold=0.8, encoder=WordEncoder())
    found = dropped(rows, condition, batched=True)
    exact = dropped(rows, NotLike(held_out, ngram=None, tfidf_threshold=None))
    assert exact < found < set(rows["id"])
    assert Hasher.hash(condition) == Hasher.hash(pickle.loads(pickle.dumps(condition)))


@pytest.mark.parametrize("held_out", [[], [""]])
def test_nothing_held_out(held_out):
    rows = Dataset.from_dict({"question": ["What is a lock?", None]})
    kept = rows.filter(NotLike(held_out, embedding_threshold=0.9, encoder=WordEncoder()))
    assert kept["question"][0] == "What is a lock?"


def test_unicode_forms_do_not_hide_an_item():
    rows = Dataset.from_dict({"text": ["Ｗｈａｔ  is a LOCK?", "What is a key?"]})
    held_out = Dataset.from_dict({"text": ["What is a lock?"]})
    assert rows.filter(NotLike(held_out, column="text"))["text"][:] == ["What is a key?"]


@pytest.mark.parametrize("measure", [{"ngram": 4}, {"tfidf_threshold": 0.5}, {"embedding_threshold": 0.8}])
def test_unicode_forms_do_not_hide_a_part_of_an_item(measure):
    rows = Dataset.from_dict({"question": ["Ｗｈａｔ ｏｐｅｎｓ ａ ｌｏｃｋ today?", "Who sells a key?"]})
    given = {"ngram": None, "tfidf_threshold": None, "embedding_threshold": None, "encoder": WordEncoder(), **measure}
    kept = rows.filter(NotLike(["what opens a lock"], **given))
    assert kept["question"][:] == ["Who sells a key?"]


@pytest.mark.parametrize(
    ("options", "match"),
    [({"tfidf_threshold": 1.2}, "1.2"), ({"ngram": 0}, "n-gram length 0"), ({"column": "text"}, "no column `text`")],
)
def test_what_cannot_work_is_said(options, match):
    with pytest.raises(ConfigError, match=match):
        NotLike(as_rows(["a b"]), **options)


def test_one_text_is_not_read_as_a_list_of_letters():
    with pytest.raises(ConfigError, match="list of texts"):
        NotLike("What is a lock?")
