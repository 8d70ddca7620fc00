"""Chapter 5's knowledge documents: what they state, what they never state, and that they never ask."""

import hashlib
import itertools
import random
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from scripts import under_hash_seeds

from shared import lexicon

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ch05_pretraining"))

import knowledge  # noqa: E402
from sheets import helpers  # noqa: E402

DATA = knowledge.knowledge()
RELATIONS = DATA["relations"]
FACTS = knowledge.load_facts()
RESERVED = lexicon.read_json(lexicon.SECOND_RESERVED)
STREAM = list(itertools.islice(knowledge.labelled_documents(123), 1_500))
SENTENCE = re.compile(r"[A-Z][^{}?\n]*[.]")


def statements(fact):
    """The fact in every wording."""
    rng = random.Random(1)
    return [knowledge.statement(rng, fact, wording) for wording in fact.wordings]


def test_the_facts_are_those_of_the_second_lexicon_without_those_left_out():
    words = lexicon.second_lexicon()
    assert {fact.relation for fact in FACTS} == set(RELATIONS)
    assert all(RELATIONS[fact.relation]["family"] == fact.family for fact in FACTS)
    assert len(set(FACTS)) == len(FACTS)
    stated = {(fact.relation, fact.subject, fact.answer) for fact in FACTS}
    rows = {(name, *row) for name, them in lexicon.all_facts(words).items() for row in them}
    left_out = {tuple(row) for row in RESERVED["left_out"]}
    assert len(left_out) == 20 and left_out <= rows and not left_out & stated
    assert {row for row in stated if row[0] in lexicon.all_facts(words)} < rows - left_out


def test_every_reserved_fact_is_told_and_so_many_others():
    families = Counter(fact.family for fact in FACTS)
    assert families == knowledge.TOLD and 1_000 <= len(FACTS) <= 1_300
    told = {fact.family: {f for f in FACTS if f.family == fact.family} for fact in FACTS}
    kept = {fact for fact in knowledge.all_known() if knowledge.reserved(fact)}
    assert all(fact in told[fact.family] for fact in kept)
    counts = Counter(fact.family for fact in kept)
    assert set(counts) == set(families) and min(counts.values()) >= 44, counts


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_wording_states_every_fact(relation):
    wordings = RELATIONS[relation]["wordings"]
    assert len(set(wordings)) == len(wordings) >= 8
    for fact in FACTS:
        if fact.relation == relation:
            for text in statements(fact):
                assert SENTENCE.fullmatch(text) and "  " not in text, text
                if relation != "kind":  # whose phrases are not the category's name
                    answers = fact.others or (fact.answer,)
                    assert any(answer.lower() in text.lower() for answer in answers), text


def test_articles_are_right():
    assert [knowledge.with_article(word) for word in ("owl", "dog", "hour", "uniform", "unlucky day")] == [
        "an owl", "a dog", "an hour", "a uniform", "an unlucky day"
    ]  # fmt: skip
    assert knowledge.with_article(DATA["mass"][0]) == DATA["mass"][0]
    assert knowledge.with_article(DATA["the"][0]) == f"the {DATA['the'][0]}"
    assert knowledge.with_article(DATA["pairs"][0]) == f"a pair of {DATA['pairs'][0]}"
    for fact in FACTS:
        if not fact.relation.startswith("letter"):  # there, "a" is a letter
            for text in statements(fact):
                assert not re.search(
                    r"\b[Aa] (?:[aeio]|u(?!ni[^mn]|se|kul|te))(?!ne\b|u|we\b)", text
                ), text
                assert not re.search(r"\b[Aa]n (?!hour|hono|heir)[^aeiou]", text), text


def test_a_plural_that_is_missing_is_an_error():
    fact = knowledge.Fact("young", "facts", "snark", "snarklet")
    with pytest.raises(KeyError, match="snark"):
        knowledge.fill("All {p0}.", fact, "snark", "snarklet")
    assert knowledge.fill("{A0}, {C1}.", fact, "snark", "snarklet") == "A snark, Snarklet."


def test_nothing_left_out_occurs():
    for _, country, city in RESERVED["left_out"]:
        for text, _ in STREAM:
            assert not (country in text and city in text), text
    lines = [text for fact in FACTS if fact.relation == "capital" for text in statements(fact)]
    for _, country, city in RESERVED["left_out"]:
        assert not any(re.search(rf"\b{city}\b", line) for line in lines), city


def test_reserved_questions_are_stated():
    read = {fact for _, facts in STREAM for fact in facts}
    found = {(fact.relation, fact.subject, fact.answer) for fact in read}
    families = RESERVED["families"]
    kept = [tuple(row) for row in families["facts"]["rows"]]
    kept += [("opposite", *row) for row in families["antonym"]["rows"]]
    kept += [("kind", word, k) for k, them in families["categories"].items() for word in them]
    assert set(kept) <= found
    assert {("rhyme", word) for word in families["rhyme"]["word: rhymes"]} <= {
        row[:2] for row in found
    }


def test_documents_state_what_they_are_said_to_state():
    for text, facts in STREAM[:300]:
        for fact in facts:
            if fact.family == "facts" and "{p0}" not in "".join(fact.wordings).lower():
                assert fact.subject.lower() in text.lower() and fact.answer in text.lower() + text
            answers = (fact.subject, *(fact.others or (fact.answer,)))
            assert any(answer.lower() in text.lower() for answer in answers), (fact, text)


def test_no_fact_is_asked_for():
    for relation in RELATIONS.values():
        assert not any("?" in text for text in relation["wordings"] + relation["probes"])
    for frame in DATA["frames"]:  # people may ask, but no fact is the answer
        assert not re.search(r"\?\W*\{(fact|said)", frame), frame
        assert not re.search(r"\{(fact|said)\d?\}\W*\?", frame), frame
    assert not any(re.search(r"\b[QA]: ", text) for text, _ in STREAM)


def test_facts_are_read_evenly():
    deck = knowledge.Deck(random.Random(1), FACTS[:50])
    dealt = Counter()
    for i in range(200):
        dealt.update(deck.deal(5, (None, "relation")[i % 2]))
        assert max(dealt.values()) - min(dealt.get(fact, 0) for fact in FACTS[:50]) <= 1
    facts = FACTS[::20]
    read = Counter(
        fact
        for _, stated in itertools.islice(knowledge.labelled_documents(1, facts), 800)
        for fact in stated
    )
    assert set(read) == set(facts) and max(read.values()) < 1.25 * min(read.values())


def test_probes_share_no_four_words_with_a_wording():
    def runs(text):
        words = re.sub(r"\{\w+\}", " _ ", text).lower().replace(",", " ").split()
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    for name, relation in RELATIONS.items():
        read = set().union(*map(runs, relation["wordings"]))
        for probe in relation["probes"]:
            assert not runs(probe) & read, f"{name}: {probe}"


def test_probes_end_before_the_answer():
    fact = next(fact for fact in FACTS if fact.relation == "capital" and fact.subject == "France")
    for prompt, completion in knowledge.probes(fact):
        assert "France" in prompt and completion == " Paris" and "{" not in prompt
    for fact in FACTS[::7]:
        assert len(knowledge.probes(fact)) >= 2
        for prompt, completion in knowledge.probes(fact):
            assert prompt == prompt.strip() and fact.subject in prompt and "{" not in prompt


def test_documents_have_the_right_size_and_are_distinct():
    texts = [text for text, _ in STREAM]
    assert len(set(texts)) == len(texts) and all(text.isascii() for text in texts)
    sizes = [helpers.tokens_in(text) for text in texts]
    assert 80 < sum(sizes) / len(sizes) < 160 and min(sizes) > 40 and max(sizes) < 300
    assert not any("{" in text or "}" in text or "  " in text for text in texts)


def test_no_british_word_is_in_the_stream():
    for text, _ in STREAM:
        assert not {w.lower() for w in re.findall("[A-Za-z]+", text)} & set(DATA["american"]), text


def test_a_seed_gives_the_same_stream_always():
    again = list(itertools.islice(knowledge.labelled_documents(123), 50))
    assert again == STREAM[:50]
    assert again != list(itertools.islice(knowledge.labelled_documents(124), 50))
    texts = "itertools.islice(knowledge.documents(123), 50)"
    digests = under_hash_seeds(ROOT / "ch05_pretraining", "knowledge", texts)
    assert len(digests) == 1


@pytest.mark.parametrize(
    "seed, digest",
    [
        (123_000, "9105a746ba564d6b35637f76489be2201c4299535eaaee769152dae2ec691ca2"),
        (7, "beef820a7f7fc588cede8a4151e25f5ffc20f216fb8a852fc9d72e936dc55800"),
    ],
)
def test_the_stream_is_what_the_second_model_reads(seed, digest):
    text = "\0".join(itertools.islice(knowledge.documents(seed), 300))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_the_script_measures_and_shows(capsys):
    knowledge.main([])
    assert "in a million tokens" in capsys.readouterr().out
    knowledge.main(["--show", "3", "--framed", "1"])
    assert capsys.readouterr().out.count("=====") == 2
