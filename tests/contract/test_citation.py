"""CITATION.cff can be read by the programs that read such files, and names the papers."""

import re
from pathlib import Path

import yaml

from hf_nar.cards.papers import BIBTEX

ROOT = Path(__file__).parents[2]
# Of version 1.2.0 of the Citation File Format.
REQUIRED = {"cff-version", "message", "title", "authors"}
KNOWN = REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "preferred-citation", "references", "repository"),
    *("repository-artifact", "repository-code", "type", "url", "version"),
}
REFERENCE_REQUIRED = {"type", "title", "authors"}
REFERENCE_KNOWN = REFERENCE_REQUIRED | {"year", "collection-title", "conference", "url", "notes"}
PERSON = {"family-names", "given-names", "name-particle", "name-suffix", "orcid", "affiliation"}
ENTITY = {"name", "website", "address", "city", "country"}


def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def check_authors(authors):
    assert authors
    for author in authors:
        allowed = ENTITY if "name" in author else PERSON
        assert author.keys() <= allowed, author
        assert all(isinstance(value, str) for value in author.values())


def test_the_file_has_the_keys_of_its_format():
    values = citation()

    assert values["cff-version"] == "1.2.0"
    assert REQUIRED <= values.keys() <= KNOWN
    assert values["type"] == "software"
    assert isinstance(values["version"], str)
    assert f'license = "{values["license"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    check_authors(values["authors"])


def test_each_reference_has_the_keys_of_its_format():
    for reference in citation()["references"]:
        assert REFERENCE_REQUIRED <= reference.keys() <= REFERENCE_KNOWN
        assert reference["type"] in {"conference-paper", "article"}
        assert isinstance(reference["year"], int)
        assert reference["conference"].keys() <= ENTITY
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", reference["url"])
        check_authors(reference["authors"])


def test_the_papers_that_cards_cite_are_referred_to():
    entries = {
        " ".join(re.search(r"title = \{(.*?)\},\n", entry, re.S)[1].split()): entry
        for entry in BIBTEX.values()
    }
    references = {reference["title"]: reference for reference in citation()["references"]}

    assert references.keys() == entries.keys()
    for title, entry in entries.items():
        assert f"year = {{{references[title]['year']}}}" in entry
        for author in references[title]["authors"]:
            assert author["family-names"] in entry
