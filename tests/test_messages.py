"""The course's text messages: as the data card says, nothing twice, nobody real."""

import dataclasses
import hashlib
import math
import random
import re
from collections import Counter, defaultdict

import pandas as pd
import pytest

from shared import assets, editions

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


SEALED = editions.MESSAGES.with_name("sealed.csv")


def test_the_sealed_messages_are_as_they_were_sealed():
    """400 more, for one final score: none like another or like one that a model has seen."""
    sealed = "1cfea04788c3634b4dc05fa095d3f8d7671a90df9be6ebe0c0b5fe7fa0ed053f"
    assert hashlib.sha256(SEALED.read_bytes()).hexdigest() == sealed
    table = pd.read_csv(SEALED, keep_default_na=False)
    counts = table.groupby(["label", "hard"]).size().to_dict()
    assert counts == {("ham", False): 256, ("ham", True): 64, ("spam", False): 44, ("spam", True): 36}  # fmt: skip
    assert (table.text == table.text.str.strip()).all() and table.text.str.len().max() < 320
    found = [domain for text in table.text for domain in DOMAIN.findall(text)]
    assert found and all(map(RESERVED.search, found))
    known = list(pd.read_csv(editions.MESSAGES, keep_default_na=False).text)
    pairs = similar([*known, *table.text], 0.6)
    assert [pair for pair in pairs if max(pair) >= len(known)] == []


@pytest.fixture
def collection(monkeypatch, tmp_path):
    """As large as the SMS Spam Collection, with its 403 repeats and a quotation mark that closes two lines on."""
    draw = random.Random(1)
    lines = [f"{draw.choice(['ham'] * 6 + ['spam'])}\tmessage {i}" for i in range(5168)]
    lines += draw.choices(lines[300:600], k=403)  # some many times
    draw.shuffle(lines)
    lines[1000:1000] = ['ham\t"so he said', "ham\twhat?", 'spam\tNo"']
    path = tmp_path / "SMSSpamCollection"
    path.write_bytes(("\n".join(lines) + "\n").encode())
    asset = assets.FILES[path.name]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(assets.FILES, path.name, dataclasses.replace(asset, sha256=digest))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", "book")
    return path


def test_the_books_messages_are_read_whole(collection):
    table = editions.messages()
    assert len(table) == 5574 and table.text.duplicated().sum() == 403
    as_csv = pd.read_csv(collection, sep="\t", header=None)  # quotation marks taken for quoting
    assert len(as_csv) == 5572
    assert (table.split == "test").sum() == 1115 and (table.split == "validation").sum() == 557
    assert table.text[1000:1003].tolist() == ['"so he said', "what?", 'No"']


def test_no_repeat_is_in_the_books_test_part(collection):
    """And how many would be, if rows were drawn regardless of it."""
    table = editions.messages()
    apart = table.split != "train"
    assert not table.text[apart].duplicated().any()
    assert not table.text[apart].isin(table.text[~apart]).any()
    drawn = table.sample(frac=1, random_state=123)
    test, rest = drawn[:1115], drawn[1115:]
    assert 50 < test.text.isin(rest.text).sum() < 250
