"""The course's text messages: as the data card says, nothing twice, nobody real."""

import math
import re
from collections import Counter, defaultdict

import pytest

from shared import editions

RESERVED = re.compile(r"(^|\.)(example\.(com|org|net)|[\w-]+\.(example|test))$", re.IGNORECASE)
DOMAIN = re.compile(r"\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|uk|info|biz|app|ly|me|example|test)\b", re.I)  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return editions.messages()


def similar(texts, least):
    """Pairs of texts whose sets of five characters in a row overlap: Jaccard index of `least` or more."""
    texts = [" ".join(text.lower().split()) for text in texts]
    sets = [{text[j : j + 5] for j in range(max(1, len(text) - 4))} for text in texts]
    often, places, pairs = Counter(gram for grams in sets for gram in grams), defaultdict(list), []
    for i, grams in enumerate(sets):
        # two sets that overlap so much share at least one of their rarest (prefix filter)
        rarest = sorted(grams, key=lambda gram: (often[gram], gram))
        rarest = rarest[: len(grams) - math.ceil(least * len(grams)) + 1]
        others = {j for gram in rarest for j in places[gram]}
        pairs += [(j, i) for j in others if len(grams & sets[j]) >= least * len(grams | sets[j])]
        for gram in rarest:
            places[gram].append(i)
    return pairs


def test_the_table_is_whole(table):
    assert list(table.columns) == ["label", "text", "hard", "split"]
    assert len(table) == 3268 and set(table.label) == {"ham", "spam"} and table.hard.dtype == bool
    assert (table.text == table.text.str.strip()).all() and table.text.str.len().between(
        1, 320
    ).all()
    assert 6 < len(table) / (table.label == "spam").sum() < 8  # about one in seven


def test_the_split_keeps_all_shares(table):
    whole = table.groupby(["label", "hard"]).size()
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        part = table[table.split == split].groupby(["label", "hard"]).size()
        assert ((part - share * whole).abs() <= 1).all()
    assert set(table.split) == {"train", "validation", "test"}


def test_no_two_messages_are_nearly_the_same(table):
    assert similar(["Is it still raining in Hull?", "is it still  raining in Hull"], 0.6)
    assert similar(table.text, 0.6) == []


def test_links_lead_nowhere(table):
    found = [domain for text in table.text for domain in DOMAIN.findall(text)]
    assert len(found) > 150
    assert [domain for domain in found if not RESERVED.search(domain)] == []


def test_neither_length_nor_a_link_tells(table):
    length = table.text.str.len()
    spam, ham = (length[table.label == label].to_numpy() for label in ("spam", "ham"))
    longer = (spam[:, None] > ham).mean() + (spam[:, None] == ham).mean() / 2
    assert longer < 0.75  # the chance that spam is longer than ham; 0.5 would be none
    link = table.text.str.contains(DOMAIN.pattern, case=False)
    assert (link & (table.label == "ham")).sum() > 60
    assert link[table.label == "spam"].mean() < 0.5
