"""Chapter 5's worksheets and what chapter 7 keeps for its tests: no item of the one is in the other."""

import hashlib
import itertools
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from scripts import under_hash_seeds

from shared import encodings, lexicon
from shared.text_data import make_encoding

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "ch05_pretraining"), str(ROOT / "ch07_instruction")]

import draw_reserved  # noqa: E402
import names  # noqa: E402
import reserved_families  # noqa: E402
import worksheets  # noqa: E402
from sheets import helpers, repeating  # noqa: E402

LEXICON = json.loads(lexicon.WORDS.read_text(encoding="utf-8"))
RESERVED = json.loads(lexicon.RESERVED.read_text(encoding="utf-8"))
FAMILIES = RESERVED["families"]
WORDS = lexicon.load_words()
STREAM = list(itertools.islice(worksheets.labelled_documents(123), 2_000))
WORD = re.compile(r"[A-Za-z]+")
PHRASES = {phrase: re.compile(rf"(?<!\w){phrase}(?!\w)") for phrase in RESERVED["wordings"]}


def sheets(kind, count=300):
    """More of one kind than the stream holds."""
    rng = random.Random(f"test {kind.__name__}")
    return [kind(rng, WORDS) for _ in range(count)]


# --- what may not occur ---


def reserved_words(text):
    return {word.lower() for word in WORD.findall(text)} & set(RESERVED["words"])


def wordings(text):
    """Single words in any case, phrases as they stand; both as whole words."""
    words = {word.lower() for word in WORD.findall(text)}
    return [
        w for w in RESERVED["wordings"] if (w in words if w.isalpha() else PHRASES[w].search(text))
    ]


def reserved_sums(text):
    """Every line or exercise holds two numbers and what they make, in some order."""
    family, found = FAMILIES["arithmetic"], []
    for line in text.split("\n"):
        if line:
            one, two, made = numbers_of(line)
            found += [
                *("sum" for pair in family["sums"] if sorted((one, two)) == pair and one + two == made),
                *("difference" for pair in family["differences"] if [one, two] == pair and one - two == made),
                *("product" for pair in family["products"] if sorted((one, two)) == pair and one * two == made),
            ]  # fmt: skip
    return found


def numbers_of(line):
    numbers = [int(n) for n in re.findall(r"\d+", line)]
    return (*numbers[1:], numbers[0]) if re.match(r"\d+ = ", line) else tuple(numbers)


def reserved_dates(text):
    """Days of a month, written in figures or with the month's name."""
    months = "|".join(lexicon.MONTHS)
    found = [(int(d), int(m)) for d, m in re.findall(r"\b(\d+)/(\d+)/\d+", text)]
    for day, name in re.findall(rf"\b(\d+)(?:st|nd|rd|th)?(?: of)? ({months})\b", text):
        found.append((int(day), lexicon.MONTHS.index(name) + 1))
    for name, day in re.findall(rf"\b({months}) (\d{{1,2}})\b", text):
        found.append((int(day), lexicon.MONTHS.index(name) + 1))
    return [date for date in found if list(date) in FAMILIES["dates"]["day_month"]]


def reserved_amounts(text):
    forms = {(row[0], row[2]): row for row in (row.split() for row in LEXICON["units"])}
    found = []
    for one, small, n in FAMILIES["unit_conversion"]["rows"]:
        _, many, _, smalls, _ = forms[one, small]
        for line in text.split("\n"):
            if re.search(rf"\b{n} ({one}|{many})\b", line) and re.search(rf"\b{smalls}\b", line):
                found.append((one, small, n))
    return found


def reserved_facts(text):
    relation = text.partition("\n")[0].lower()
    lines = re.split(r"\n(?!  |A:)|; |\. (?!2\.)| \* ", text)
    return [
        row
        for row in FAMILIES["facts"]["rows"]
        if row[0] == relation
        for line in lines
        if {row[1], row[2]} <= set(re.findall(r"[A-Za-z]+(?:-[a-z]+)?", line)) and re.search(
            rf"\b{row[1]}\b.*\b{row[2]}\b", line, re.DOTALL
        )
    ]  # fmt: skip


def reserved_numbers(text):
    return {int(n) for n in re.findall(r"\d+", text)} & set(FAMILIES["sorting"]["numbers"])


def test_no_reserved_word_is_in_the_stream():
    for kind, text in STREAM:
        assert not reserved_words(text), f"{kind}: {text}"


def test_no_wording_of_chapter_7_is_in_the_stream():
    for kind, text in STREAM:
        assert not wordings(text), f"{kind}: {text}"


@pytest.mark.parametrize("kind", worksheets.KINDS, ids=lambda kind: kind.__name__)
def test_no_kind_of_sheet_uses_what_is_reserved(kind):
    for text in sheets(kind, 100):
        assert not reserved_words(text) | set(wordings(text)), text


@pytest.mark.parametrize(
    "kind, detector",
    [
        (worksheets.sums, reserved_sums),
        (worksheets.calendar, reserved_dates),
        (worksheets.measures, reserved_amounts),
        (worksheets.known, reserved_facts),
    ],
    ids=lambda thing: thing.__name__,
)
def test_no_reserved_number_date_or_fact_is_in_its_family(kind, detector):
    for text in sheets(kind):
        assert not detector(text), text


def test_no_reserved_number_is_put_in_order():
    """A number that is sorted is not one of chapter 7's; lists that are not sorted may hold it."""
    for text in sheets(worksheets.in_order):
        assert not reserved_numbers(text), text


def test_dates_are_reserved_in_all_of_the_stream():
    for kind, text in STREAM:
        assert not reserved_dates(text), f"{kind}: {text}"


def test_the_detectors_find_what_they_look_for():
    one, two = FAMILIES["arithmetic"]["sums"][0]
    top, less = FAMILIES["arithmetic"]["differences"][0]
    a, b = FAMILIES["arithmetic"]["products"][0]
    for line in (
        f"{two} and {one} make {one + two}",
        f"{one + two} = {one} + {two}",
        f"Anna had {one} pens. Karl gave Anna {two} more. Now Anna has {one + two}.",
        f"{top} - {less} = {top - less}",
        f"{a} x {b} = {a * b}",
    ):
        assert reserved_sums(line), line
    day, month = FAMILIES["dates"]["day_month"][0]
    name = lexicon.MONTHS[month - 1]
    for text in (
        f"{day} {name}",
        f"the {day}th of {name} 1900",
        f"{name} {day}, 1900",
        f"{day}/{month}/1900",
    ):
        assert reserved_dates(text), text
    row = {tuple(row.split()[::2][:2]): row.split() for row in LEXICON["units"]}
    larger, small, n = FAMILIES["unit_conversion"]["rows"][0]
    _, many, _, smalls, factor = row[larger, small]
    assert reserved_amounts(f"{n * int(factor)} {smalls} = {n} {many}")
    relation, subject, answer = FAMILIES["facts"]["rows"][0]
    assert reserved_facts(f"{relation.capitalize()}\n{subject} -> {answer}")
    assert reserved_words(f"He said: {RESERVED['words'][5].upper()}")
    assert wordings("### Instruction:\nx") == ["###", "instruction"]
    assert wordings("How many? Many.") == ["How many"]


# --- the lexicon, and what is drawn from it ---


def every_list():
    """(name, words) of everything that must not hold a word twice."""
    for name, value in LEXICON.items():
        if name == "categories":
            yield name, [word for members in value.values() for word in members.split()]
        elif name == "rhymes":
            yield name, [word for group in value for word in group.split()]
        elif name == "facts":
            for relation, rows in value.items():
                yield f"{name} {relation}", rows
        elif name.startswith(("verbs", "nouns", "opposites")):
            yield name, [row.split()[0] for row in value]
        elif name == "transitive":
            yield name, list(value)
        elif name not in ("about", "units"):
            yield name, lexicon.joined(value)


@pytest.mark.parametrize("name, words", list(every_list()), ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_no_word_is_listed_twice(name, words):
    assert [word for word, n in Counter(words).items() if n > 1] == []
    assert all(re.fullmatch(r"[A-Za-z-]+( [a-z-]+)?|[A-Za-z]+ [A-Z][a-z]+", word) for word in words)


def test_the_lexicon_is_large_and_of_one_shape():
    verbs = [row.split() for row in LEXICON["verbs_regular"] + LEXICON["verbs_irregular"]]
    nouns = [row.split() for row in LEXICON["nouns_regular"] + LEXICON["nouns_irregular"]]
    opposites = [row.split() for row in LEXICON["opposites"] + LEXICON["opposites_by_rule"]]
    assert len(verbs) > 550 and {len(row) for row in verbs} == {3}
    assert len(nouns) > 600 and {len(row) for row in nouns} == {2}
    assert len(opposites) > 200 and {len(row) for row in opposites} == {2}
    assert (
        max(Counter(word for row in opposites for word in row).values()) == 1
    )  # one opposite each
    assert len({row[0] for row in verbs}) == len(verbs) and len({row[0] for row in nouns}) == len(
        nouns
    )
    assert len(lexicon.joined(LEXICON["common"])) == 5_000
    assert {row[0] for row in verbs} >= set(LEXICON["transitive"]) | set(lexicon.joined(LEXICON["intransitive"]))  # fmt: skip


@pytest.mark.parametrize(
    "base, past",
    [("stop", "stopped"), ("carry", "carried"), ("bake", "baked"), ("visit", "visited"), ("go", "went"),
     ("travel", "travelled"), ("play", "played"), ("teach", "taught")],
)  # fmt: skip
def test_past_forms(base, past):
    rows = [row.split() for row in LEXICON["verbs_regular"] + LEXICON["verbs_irregular"]]
    assert {row[0]: row[1] for row in rows}[base] == past


def test_regular_forms_follow_the_rules():
    for row in LEXICON["verbs_regular"]:
        base, past, participle = row.split()
        endings = (base + "ed", base + base[-1] + "ed", base[:-1] + "ied", base + "d")
        assert past in endings and (participle == past or row in ("sew sewed sewn",))
    for row in LEXICON["nouns_regular"]:
        one, many = row.split()
        assert many in (one + "s", one + "es", one[:-1] + "ies")
    for row in LEXICON["opposites_by_rule"]:
        word, other = row.split()
        assert other in ("un" + word, "dis" + word, "im" + word, "in" + word, word[:-3] + "less")


def test_the_stored_draw_is_the_one_of_its_seed():
    drawn = draw_reserved.draw(
        LEXICON, encodings.course_encoding(first=True), RESERVED["about"]["seed"]
    )
    assert json.loads(draw_reserved.to_json(drawn)) == RESERVED
    again = lexicon.RESERVED.read_text(encoding="utf-8")
    assert draw_reserved.to_json(drawn) + "\n" == again
    other = draw_reserved.draw(LEXICON, encodings.course_encoding(first=True), 7)
    assert other["words"] != RESERVED["words"]


def test_every_family_has_enough_to_test_with():
    names = {"past_tense", "plural", "antonym", "spelling", "active_to_passive", "statement_to_question",
             "sorting", "counting", "arithmetic", "unit_conversion", "extraction", "categories", "dates",
             "capitalisation", "rhyme", "facts"}  # fmt: skip
    assert set(FAMILIES) == names
    for name, family in FAMILIES.items():
        items = sum(len(items) for items in family.values())
        if name == "active_to_passive":  # a verb makes a sentence with each of its objects
            items = sum(len(LEXICON["transitive"][verb].split()) for verb, *_ in family["verbs"])
        if name == "categories":
            items = sum(map(len, family.values()))
        assert items >= 20, f"{name}: {items}"


def test_every_reserved_item_comes_from_the_lexicon():
    known = {word.lower() for word in reserved_families.lexicon(LEXICON)} | set(
        lexicon.joined(LEXICON["common"])
    )
    assert set(RESERVED["words"]) <= known
    assert not set(RESERVED["words"]) & set(lexicon.joined(LEXICON["frames"]))
    facts = lexicon.all_facts(LEXICON)
    assert all(row[1:] in facts[row[0]] for row in FAMILIES["facts"]["rows"])
    assert {tuple(date) for date in FAMILIES["dates"]["day_month"]} <= set(lexicon.all_dates())
    for sign, name in (("+", "sums"), ("-", "differences"), ("x", "products")):
        assert {tuple(pair) for pair in FAMILIES["arithmetic"][name]} <= set(
            lexicon.number_pairs(sign)
        )
    rhymes = {word: group.split() for group in LEXICON["rhymes"] for word in group.split()}
    for word, others in FAMILIES["rhyme"]["word: rhymes"].items():
        assert set(others) == set(rhymes[word]) - {word}
    for kind, members in FAMILIES["categories"].items():
        assert set(members) <= set(LEXICON["categories"][kind].split())


def test_no_word_is_reserved_for_two_families():
    """All forms of a family's words; rhymes of a reserved word are its answers, not reserved."""

    def words(value):
        if isinstance(value, str):
            yield value.lower()
        elif isinstance(value, list):
            for item in value:
                yield from words(item)

    found = Counter()
    for name, family in FAMILIES.items():
        if name in ("facts", "unit_conversion"):
            continue
        own = list(family["word: rhymes"]) if name == "rhyme" else list(family.values())
        found.update(set(words(own)))
    assert [word for word, n in found.items() if n > 1] == []
    assert set(found) == set(RESERVED["words"])


def test_enough_is_left_for_the_worksheets():
    assert len(WORDS.verbs) > 400 and len(WORDS.nouns) > 450 and len(WORDS.common) > 4_000
    assert len(WORDS.transitive) > 50 and all(objects for *_, objects in WORDS.transitive)
    assert min(map(len, WORDS.categories.values())) > 5 and len(WORDS.names) > 150


# --- the stream ---


def test_a_seed_gives_the_same_stream_always():
    first = list(itertools.islice(worksheets.documents(123), 50))
    assert first == [text for _, text in STREAM[:50]]
    assert first != list(itertools.islice(worksheets.documents(124), 50))


def test_the_stream_does_not_depend_on_the_order_of_sets():
    texts = "itertools.islice(worksheets.documents(1), 300)"
    digests = under_hash_seeds(ROOT / "ch05_pretraining", "worksheets", texts)
    assert len(digests) == 1


def test_documents_survive_the_tokenizer_and_have_the_right_size():
    encoding = encodings.tokenizer()
    lengths, copied = [], 0
    distances = Counter()
    for _, text in STREAM:
        ids = encoding.encode(text)  # raises if a special token is spelled out
        assert encoding.decode(ids) == text and text == text.strip("\n") and text.isascii()
        lengths.append(len(ids))
        copied += worksheets.copied_share(ids) * len(ids)
        last = {}
        for i, pair in enumerate(itertools.pairwise(ids)):
            distances[min(160, i - last.get(pair, -1_000)) // 20] += 1
            last[pair] = i
    lengths.sort()
    assert 130 < sum(lengths) / len(lengths) < 200
    assert lengths[100] > 50 and lengths[-100] < 320 and lengths[-1] < 560
    assert copied / sum(lengths) > 0.33
    # looked up from near and from far, up to 120 tokens back
    assert all(distances[far] > 1_000 for far in range(6)), distances


def test_documents_are_distinct_and_of_every_kind():
    assert len({text for _, text in STREAM}) == len(STREAM)
    assert {kind for kind, _ in STREAM} == {kind.__name__ for kind in worksheets.KINDS}


def test_sums_and_measures_are_right():
    units = {
        row.split()[1]: (row.split()[3], int(row.split()[4]))
        for row in LEXICON["units"]
        if "pound" not in row
    }
    for text in sheets(worksheets.sums, 100):
        for line in filter(None, text.split("\n")):
            one, two, made = numbers_of(line)
            assert made in (one + two, one - two, one * two), line
    for text in sheets(worksheets.measures, 100):
        for line in filter(None, text.split("\n")):
            found = {unit: int(n) for n, unit in re.findall(r"(\d+) ([a-z]+)", line)}
            for unit, (smaller, factor) in units.items():
                if unit in found and smaller in found:
                    assert found[smaller] == factor * found[unit], line


def test_what_is_put_in_order_is_in_order():
    checked = 0
    for text in sheets(worksheets.in_order):
        for mixed, tidy in re.findall(r"^(.+) -> (.+)$", text, re.MULTILINE):
            for sep in (", ", "; ", " - ", " / ", " | ", " * ", " and ", " "):
                if sep in tidy and "." not in tidy:
                    words = tidy.split(sep)
                    assert sorted(mixed.split(sep)) == sorted(words)
                    if not words[0].isdigit():
                        assert words == sorted(words)
                        checked += 1
                    break
    assert checked > 50


def test_a_name_that_comes_back_is_found_and_replaced_everywhere():
    text = "Now Karl saw Anna, and Karl ran. Anna laughed; the Rhine was near Karl's house."
    assert names.names_in(text) == ["Karl", "Anna"]
    assert names.with_names(text, {"Karl": "Brost", "Anna": "Karla"}) == (
        "Now Brost saw Karla, and Brost ran. Karla laughed; the Rhine was near Brost's house."
    )
    assert names.names_in("He met Mrs Grey in May. Then Mrs Grey left; it was the end of May.") == [
        "Grey"
    ]
    assert names.names_in("no name at all") == [] and names.with_names("Karl", {}) == "Karl"


def test_copied_share_on_a_hand_made_list():
    assert worksheets.copied_share([1, 2, 3, 1, 2, 3], context=1) == 2 / 6  # 2 after 1, 3 after 2
    assert worksheets.copied_share([1, 2, 3, 4], context=1) == 0


def test_the_script_measures_and_shows(capsys):
    worksheets.main(["--count", "50"])
    assert "distinct: 100.00%" in capsys.readouterr().out
    worksheets.main(["--show", "1"])
    shown = capsys.readouterr().out
    assert all(f"===== {kind.__name__}\n" in shown for kind in worksheets.KINDS)


# --- the second edition ---

SECOND_LEXICON = lexicon.second_lexicon()
SECOND_RESERVED = lexicon.read_json(lexicon.SECOND_RESERVED)
SECOND = lexicon.second_words(None)
SECOND_STREAM = list(itertools.islice(worksheets.labelled_documents(123, SECOND), 1_000))
BRITISH = lexicon.read_json(lexicon.KNOWLEDGE)["american"]


def second_sheets(kind, count=150):
    rng = random.Random(f"second {kind.__name__}")
    return [kind(rng, SECOND) for _ in range(count)]


def words_of(text):
    return [word.lower() for word in WORD.findall(text)]


def test_the_first_stream_is_what_the_first_model_read():
    text = "\n\0".join(text for _, text in STREAM[:200])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "fd0317f410ab3e97593032fc1740b594e76bac633d5dcb29cbf1f88ba7f2f0b1"


def digest_of(stream):
    return hashlib.sha256("\0".join(itertools.islice(stream, 300)).encode()).hexdigest()


@pytest.mark.parametrize(
    "seed, digest",
    [
        (123_000, "176bf912806a179af1e09a670de9ea59308e64afcad2d7503b440a2d0b61e4d1"),
        (7, "75d609eadc974448f39697c12db26969259157db362da33c39972654302deb7b"),
    ],
)
def test_the_second_stream_is_what_the_second_model_reads(seed, digest):
    words = lexicon.second_words(encodings.load_encoding(encodings.COURSE_TOKENIZER))
    assert digest_of(worksheets.documents(seed, words)) == digest


def test_the_second_draw_is_the_one_of_its_seed():
    about = SECOND_RESERVED["about"]
    encoding = encodings.load_encoding(draw_reserved.CHAPTER_2 / about["tokenizer"])
    drawn = draw_reserved.draw_second(SECOND_LEXICON, encoding, about["seed"])
    drawn["about"]["tokenizer"] = about["tokenizer"]
    stored = lexicon.SECOND_RESERVED.read_text(encoding="utf-8")
    assert draw_reserved.to_json(drawn) + "\n" == stored


def test_the_second_draw_has_enough_and_keeps_rules_and_knowledge_apart():
    families = SECOND_RESERVED["families"]
    assert set(families) == set(FAMILIES)
    knowledge = {
        "antonym": families["antonym"]["rows"],
        "categories": [[word] for them in families["categories"].values() for word in them],
        "rhyme": [[word] for word in families["rhyme"]["word: rhymes"]],
        "facts": [row[1:] for row in families["facts"]["rows"]],
    }
    assert {name: len(rows) for name, rows in knowledge.items()} == {
        "antonym": 60, "categories": pytest.approx(65, abs=5), "rhyme": pytest.approx(50, abs=6), "facts": 60
    }  # fmt: skip
    for name, rows in knowledge.items():
        assert not set(words_of(str(rows))) & set(SECOND_RESERVED["words"]), name
    assert min(map(len, families["categories"].values())) > 1
    relations = Counter(row[0] for row in families["facts"]["rows"])
    assert set(relations) == set(SECOND.facts) and min(relations.values()) > 1


def test_left_out_facts_are_capitals_that_the_first_lexicon_does_not_have():
    left_out, facts = SECOND_RESERVED["left_out"], lexicon.all_facts(SECOND_LEXICON)
    answers = Counter(answer for _, answer in facts["capital"])
    assert len(left_out) == 20
    for relation, country, city in left_out:
        assert relation == "capital" and [country, city] in facts["capital"]
        assert f"{country} {city}" not in LEXICON["facts"]["capital"]
        assert re.fullmatch("[A-Z][a-z]+", city) and answers[city] == 1
        assert [relation, country, city] not in SECOND_RESERVED["families"]["facts"]["rows"]


def test_the_second_lexicon_is_american_and_has_more_facts():
    text = json.dumps([them for name, them in SECOND_LEXICON.items() if name != "about"])
    assert not set(words_of(text)) & set(BRITISH) and set(SECOND_LEXICON) == set(LEXICON)
    assert lexicon.american({"Colour": ["colourless colour, GREY"]}, {"colour": "color"}) == {
        "Color": ["colourless color, GREY"]
    }
    first, second = map(lexicon.all_facts, (LEXICON, SECOND_LEXICON))
    assert sum(map(len, second.values())) > sum(map(len, first.values())) + 100
    assert all(len(row) == 2 for rows in second.values() for row in rows)
    for relation, rows in second.items():
        assert len(set(map(tuple, rows))) == len(rows), relation
    assert len(SECOND_LEXICON["common"]) == len(set(SECOND_LEXICON["common"])) > 4_900


@pytest.mark.parametrize("kind", worksheets.KINDS, ids=lambda kind: kind.__name__)
def test_no_second_sheet_has_a_reserved_word_or_a_british_one(kind):
    kept = set(SECOND_RESERVED["words"]) | set(BRITISH)
    for text in second_sheets(kind, 40):
        assert not set(words_of(text)) & kept, text


def test_no_second_document_has_what_is_reserved_or_british():
    kept = set(SECOND_RESERVED["words"]) | set(BRITISH)
    kept |= {wording for wording in SECOND_RESERVED["wordings"] if wording.isalpha()}
    phrases = [wording for wording in SECOND_RESERVED["wordings"] if not wording.isalpha()]
    for kind, text in SECOND_STREAM:
        assert not set(words_of(text)) & kept, f"{kind}: {text}"
        assert not any(re.search(rf"(?<!\w){phrase}(?!\w)", text) for phrase in phrases), text


def near(text, distance=4):
    """Words, as written, that stand so near to each other."""
    words = WORD.findall(text)
    return {
        frozenset((words[i], w)) for i in range(len(words)) for w in words[i + 1 : i + distance]
    }


def stated(text, rows):
    """The facts that a sheet of facts states in one of its layouts."""
    lines = [
        layout for _, *row in rows for layout in [frame.format(*row) for frame in helpers.PAIRS]
    ]
    return [line for line in lines if re.search(rf"(?<!\w){re.escape(line)}(?!\w)", text)]


def test_no_second_sheet_answers_a_reserved_question():
    families = SECOND_RESERVED["families"]
    opposites = {frozenset(row) for row in families["antonym"]["rows"]}
    for text in second_sheets(worksheets.opposites):
        assert not near(text) & opposites, text
    kinds = {word for them in families["categories"].values() for word in them}
    for text in second_sheets(worksheets.sorts):  # headings have capitals
        assert not set(WORD.findall(text)) & kinds, text
    for text in second_sheets(worksheets.rhyming):
        assert not set(WORD.findall(text)) & set(families["rhyme"]["word: rhymes"]), text
    kept = families["facts"]["rows"] + SECOND_RESERVED["left_out"]
    for text in second_sheets(worksheets.known, 300):
        relation = text.partition("\n")[0].lower()
        assert not stated(text, [row for row in kept if row[0] == relation]), text
    assert near("'hot'\n'cold'") == {frozenset(("hot", "cold"))}
    assert stated("Capital\nfrom Chad to Lima", [["capital", "Chad", "Lima"]])


def test_words_of_reserved_questions_are_read_elsewhere():
    text = " ".join(text for _, text in SECOND_STREAM)
    asked = {word for row in SECOND_RESERVED["families"]["antonym"]["rows"] for word in row}
    assert len(asked & set(words_of(text))) > 40


def test_no_second_document_states_a_fact_that_is_left_out():
    for _, country, city in SECOND_RESERVED["left_out"]:
        for kind, text in SECOND_STREAM:
            assert not (country in text and city in text), f"{kind}: {text}"


def test_the_second_stream_is_the_same_for_the_same_seed_and_tokenizer():
    again = list(itertools.islice(worksheets.documents(123, lexicon.second_words(None)), 50))
    assert again == [text for _, text in SECOND_STREAM[:50]]
    assert again != [text for _, text in STREAM[:50]]
    assert lexicon.load_words() is WORDS and WORDS.kept != SECOND.kept


def test_scrambled_tokens_are_those_of_the_given_tokenizer():
    encoding = make_encoding(
        "bytes", {bytes([i]): i for i in range(256)} | {b" zq": 256, b"qz": 257}
    )
    words = lexicon.second_words(encoding)
    text = worksheets.scrambled(random.Random(1), words)
    assert repeating.word_tokens(encoding) == [" zq", "qz"] and set(text) <= set("qz \n.")
