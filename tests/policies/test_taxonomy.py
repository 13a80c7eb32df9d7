import json

import pytest
import yaml

from star_hf.errors import PolicyError
from star_hf.policies import Taxonomy


GERMAN = """\
name: schule
version: 1.0
language: no
other: Sonstiges
categories:
  - name: Prüfungen & Noten
    definition: Fragen zu Prüfungen.
    objective: Faire Prüfungen.
    rules:
      - Keine Lösungen laufender Prüfungen.
      - "Erlaubt: üben und erklären."
    responses:
      - when: Eine Lösung wird verlangt
        do: Ablehnen und Lernhilfe anbieten.
        kind: redirect
  - name: Mobbing
    definition: Hänseleien.
    objective: Niemand wird ausgegrenzt.
    rules: [Nicht mitmachen.]
    responses:
      - {when: Jemand wird gemobbt, do: Hilfe nennen., kind: comply_with_care}
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "my.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture(scope="module")
def star_8():
    return Taxonomy.load()


def test_the_labels_are_the_published_ones(star_8, shared_data):
    rows = json.loads((shared_data / "raw" / "STAR-1" / "STAR-1.json").read_text(encoding="utf-8"))
    assert set(star_8.names) == {label for row in rows for label in row["category"]}


def test_the_eight_policies_are_complete(star_8):
    assert len(star_8.names) == 8 and star_8.other == "Other" and star_8.language == "en"
    for category in star_8.categories:
        allowed = [rule for rule in category.rules if rule.startswith("Allowed:")]
        assert 1 < len(allowed) < len(category.rules) - 1, category.name
        kinds = {response.kind for response in category.responses}
        assert (
            kinds >= {"refuse", "safe_complete", "redirect", "comply_with_care"} or category.name == "Sexual / Adult"
        )
        words = len(" ".join([category.definition, category.objective, *category.rules]).split())
        assert 120 < words < 260, category.name


def test_rules_are_numbered_in_the_policy_text(star_8):
    text = star_8.policy_text(["Self-Harm"])
    category = star_8.pick(["Self-Harm"])[0]
    for number, rule in enumerate(category.rules, start=1):
        assert f"\n{number}. {rule}\n" in text
    assert all(response.do in text for response in category.responses)
    assert "Intellectual Property" not in text


def test_policies_come_in_the_taxonomys_order_once(star_8):
    picked = star_8.pick(["Self-Harm", "Sexual / Adult", "Self-Harm"])
    assert [category.name for category in picked] == ["Sexual / Adult", "Self-Harm"]


def test_an_edited_clause_changes_the_version_of_its_category_alone(write, star_8):
    before = Taxonomy.load(write(GERMAN))
    after = Taxonomy.load(write(GERMAN.replace("Nicht mitmachen.", "Nicht mitmachen!")))
    assert before.version_of(["Mobbing"]) != after.version_of(["Mobbing"])
    assert before.version_of(["Mobbing", "Prüfungen & Noten"]) != after.version_of(["Mobbing", "Prüfungen & Noten"])
    assert before.version_of(["Prüfungen & Noten"]) == after.version_of(["Prüfungen & Noten"])
    assert before.hash != after.hash
    assert star_8.version_of(["Self-Harm", "Sexual / Adult"]) == star_8.version_of(["Sexual / Adult", "Self-Harm"])
    assert len(star_8.hash) == 16 and int(star_8.hash, 16) >= 0


def test_the_versions_of_the_packaged_policies_never_change_unnoticed(star_8):
    """They are in the keys of paid answers: with another hash, every finished run would be asked again."""
    assert star_8.hash == "788d7896a8148401"
    assert star_8.version_of(star_8.names[:2]) == "39607e40c2db3cdc"
    assert {name: star_8.version_of([name]) for name in star_8.names} == {
        "Harassment / Hate / Discrimination": "dbdfd7f140c1d7e1",
        "Sexual / Adult": "116684d85ba17551",
        "Violence / Physical Harm": "2e5333bba11318b7",
        "Self-Harm": "0b04d4d0331dbdf9",
        "Illicit / Criminal Behavior": "be9da53524bd20ca",
        "Misinformation / Disinformation": "05f76a14b5129a03",
        "Privacy / Personal Data": "13c4581a53b87280",
        "Intellectual Property": "2feb5ed636ee122b",
    }


def test_any_language_and_number_of_categories(write):
    taxonomy = Taxonomy.load(write(GERMAN))
    assert taxonomy.names == ("Prüfungen & Noten", "Mobbing")
    assert taxonomy.language == "no" and taxonomy.version == "1.0"
    assert Taxonomy.load(write(GERMAN.replace("redirect", '" redirect "'))) == taxonomy, "spaces do not count"
    assert "Prüfungen & Noten" in taxonomy.policy_text(taxonomy.names)


def test_a_byte_order_mark_is_no_error(write):
    assert Taxonomy.load(write(b"\xef\xbb\xbf" + GERMAN.encode())).name == "schule"


@pytest.mark.parametrize("names", [["Self Harm"], ["Other"], []])
def test_a_category_without_policy_is_an_error(star_8, names):
    with pytest.raises(PolicyError) as caught:
        star_8.pick(names)
    assert caught.value.remedy and (names != ["Self Harm"] or "Did you mean 'Self-Harm'" in caught.value.remedy)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    objective: Faire Prüfungen.\n", "", ["category 1 ('Prüfungen & Noten')", "'objective' is missing"]),
        ("objective: Faire", "objectve: Faire", ["'objectve'", "Did you mean 'objective'"]),
        ("Faire Prüfungen.", "", ["category 1", "'objective'", "expected text, found nothing"]),
        ("Faire Prüfungen.", "[a]", ["'objective'", "expected text, found ['a']"]),
        ("rules: [Nicht mitmachen.]", "rules: []", ["category 2 ('Mobbing')", "'rules'", "at least one item"]),
        ("rules: [Nicht mitmachen.]", "rules: Nicht.", ["'rules'", "expected a list", "'Nicht.'"]),
        ("[Nicht mitmachen.]", "[Nicht mitmachen., '']", ["category 2", "'rules[2]'", "expected text"]),
        ('"Erlaubt: üben und erklären."', "Erlaubt: üben.", ["'rules[2]'", "expected text", "in quotes"]),
        ("kind: redirect", "kind: refer", ["responses[1]", "'kind'", "expected one of refuse", "'refer'"]),
        ("kind: redirect", "kind: redirekt", ["Did you mean 'redirect'"]),
        ("when: Jemand wird gemobbt, ", "", ["category 2", "responses[1]", "'when' is missing"]),
        ("name: Mobbing", "name: prüfungen  & noten", ["category 2", "so has category 1"]),
        ("name: Mobbing", "name: sonstiges", ["category 2", "`other`"]),
        ("language: no", "language: no\nlanguage: de", ["line 4", "duplicate key 'language'"]),
        ("  - name: Mobbing", "  - name: Mobbing: schlimm", ["line 16", "not valid YAML"]),
        ("other: Sonstiges\n", "", ["'other' is missing"]),
        ("categories:", "categorys:", ["'categorys'", "Did you mean 'categories'"]),
    ],
)
def test_a_mistake_is_named_with_its_place(write, old, new, words):
    assert old in GERMAN
    path = write(GERMAN.replace(old, new, 1))
    with pytest.raises(PolicyError) as caught:
        Taxonomy.load(path)
    assert str(path) in caught.value.message
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("content", ["", "just text", "- a\n- b", "categories: []", b"name: \xff\xfe", "a: \x01"])
def test_a_file_that_is_no_taxonomy(write, content):
    path = write(content)
    with pytest.raises(PolicyError, match="my.yaml"):
        Taxonomy.load(path)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(PolicyError, match=path.name):
            Taxonomy.load(path)


def test_the_example_of_the_guide_is_valid(write):
    from pathlib import Path

    guide = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    example = guide.split("```yaml\n")[1].split("```")[0]
    taxonomy = Taxonomy.load(write(example))
    assert len(taxonomy.names) == 2 and taxonomy.language != "en"
    assert yaml.safe_load(example)["name"] == taxonomy.name
