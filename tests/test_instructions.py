"""Chapter 7's instructions: what is tested with is in no training item of its family, and the answers are right."""

import functools
import itertools
import json
import re
import string
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from shared import assets, editions, encodings, lexicon
from shared.instruction import short_prompt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ch07_instruction"))

import held_apart  # noqa: E402
import make_instructions  # noqa: E402

FOLDER = ROOT / "ch07_instruction"
ENTRIES = json.loads((FOLDER / "instructions.json").read_text(encoding="utf-8"))
CORE = json.loads((FOLDER / "core.json").read_text(encoding="utf-8"))
RESERVED = json.loads((FOLDER / "reserved_2.json").read_text(encoding="utf-8"))
LEXICON = lexicon.second_lexicon()
KEPT = RESERVED["families"]
WORDINGS = make_instructions.PHRASES["wordings"]
SPLITS = {name: [e for e in ENTRIES if e["split"] == name] for name in ("train", "validation", "test")}  # fmt: skip
LEARNT = SPLITS["train"] + SPLITS["validation"]
SCORED = [make.__name__ for make in make_instructions.FAMILIES]
KNOWLEDGE = ["antonym", "categories", "rhyme", "facts"]
RULES = [family for family in SCORED if family not in KNOWLEDGE]
OPEN = ["write_sentence", "describe", "explain"]
SPOKEN = ["talk", "unknowable", "look_alike"]
MONTHS = lexicon.MONTHS
UNITS = [row.split() for row in LEXICON["units"]]
PEOPLE = {word for words in KEPT["extraction"].values() for word in words} - set(KEPT["extraction"]["jobs"])  # fmt: skip


def of(family, entries=ENTRIES):
    return [entry for entry in entries if entry["family"] == family]


def prompt(entry):
    return f"{entry['instruction']} {entry['input']}"


def whole(entry):
    before = " ".join(turn["content"] for turn in entry.get("before", []))
    return f"{before} {prompt(entry)} {entry['output']}".strip()


def words_in(text):
    """In small letters; words written letter by letter count too."""
    joined = re.sub(r"(?<=\b\w)(?:-|, )(?=\w\b)", "", text)
    return {word.lower() for word in re.findall(r"[A-Za-z]+", f"{text} {joined}")}


def strings(value):
    if isinstance(value, str):
        yield value.lower()
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def own_words(family):
    """The words reserved for a family of rules; of knowledge those that are asked about."""
    lists = KEPT[family]
    return set(strings([list(lists["word: rhymes"])] if family == "rhyme" else list(lists.values())))  # fmt: skip


def pattern(wording):
    parts = re.split(r"\{(\d)\}", wording)
    seen, made = set(), ""
    for i, part in enumerate(parts):
        made += re.escape(part) if i % 2 == 0 else rf"(?P=v{part})" if part in seen else rf"(?P<v{part}>.+?)"  # fmt: skip
        seen |= {part} if i % 2 else set()
    return re.compile(made)


KEPT_WORDINGS = make_instructions.PHRASES["reserved"]
PATTERNS = {
    family: [(form, pattern(wording)) for form, wordings in forms.items() for wording in wordings]
    + [(form, pattern(wording)) for form, wording in KEPT_WORDINGS[family].items()]
    for family, forms in WORDINGS.items()
}


WRITTEN = {(entry["instruction"], entry["input"]) for entry in CORE}


@functools.cache
def matched(family, text):
    """(number of the wording, its form, values), read back from a generated entry's text."""
    for i, (form, wording) in enumerate(PATTERNS[family]):
        if match := wording.fullmatch(text):
            return i, form, [match[name] for name in sorted(match.groupdict())]
    return None


def parsed(entry):
    """(form, values) of a generated entry; None for a hand-written one."""
    if (entry["instruction"], entry["input"]) in WRITTEN:
        return None
    text = entry["instruction"] + (f" | {entry['input']}" if entry["input"] else "")
    made = matched("facts" if entry["family"] == "unread" else entry["family"], text)
    return made and made[1:]


# --- what may not be learnt from ---

WORD_FAMILIES = [f for f in RULES if f not in ("arithmetic", "unit_conversion", "dates")]


def reserved_words(entry):
    return words_in(whole(entry)) & own_words(entry["family"])


def reserved_numbers(entry):
    return {int(n) for n in re.findall(r"\d+", whole(entry))} & set(KEPT["sorting"]["numbers"])


def reserved_sums(entry):
    """Two numbers, in either order, and what they make."""
    numbers = [int(n) for n in re.findall(r"\d+", whole(entry))]
    if len(numbers) != 3:
        return []
    *both, made = sorted(numbers[:2]), numbers[2]
    [[low, high]], found = both, KEPT["arithmetic"]
    return [
        name
        for name, pair, result in (("sums", [low, high], low + high), ("differences", [high, low], high - low), ("products", [low, high], low * high))
        if pair in found[name] and result == made
    ]  # fmt: skip


def reserved_amounts(entry):
    text, found = whole(entry), []
    for one, small, n in KEPT["unit_conversion"]["rows"]:
        row = next(row for row in UNITS if (row[0], row[2]) == (one, small))
        larger, smaller = f"(?:{one}|{row[1]})", f"(?:{small}|{row[3]})"
        for number, unit, other in ((n, larger, smaller), (n * int(row[4]), smaller, larger)):
            if re.search(rf"\b{number} {unit}\b", text) and re.search(rf"\b{other}\b", text):
                found.append((one, small, n))
    return found


def reserved_dates(entry):
    months = "|".join(MONTHS)
    found = [(int(d), int(m)) for d, m in re.findall(r"\b(\d+)/(\d+)/\d+", whole(entry))]
    for day, name in re.findall(rf"\b(\d+)(?:st|nd|rd|th)?(?: of)? ({months})\b", whole(entry)):
        found.append((int(day), MONTHS.index(name) + 1))
    return [date for date in found if list(date) in KEPT["dates"]["day_month"]]


def questions():
    """(subject, answer) of each reserved question."""
    yield from ((subject, answer) for _, subject, answer in KEPT["facts"]["rows"] + RESERVED["left_out"])  # fmt: skip
    yield from (pair for a, b in KEPT["antonym"]["rows"] for pair in ((a, b), (b, a)))
    kinds = KEPT["categories"]
    yield from ((w, "body part" if k == "body" else k) for k, them in kinds.items() for w in them)
    rhymes = KEPT["rhyme"]["word: rhymes"]
    yield from ((word, other) for word, others in rhymes.items() for other in others)


QUESTIONS = [(set(s.lower().split()), set(a.lower().split()), s, a) for s, a in questions()]


def reserved_questions(entry):
    """Those whose subject is in what is asked, and whose answer is in the answer: in any family, in any wording."""
    asked = set(re.findall("[a-z-]+", whole(entry | {"output": ""}).lower()))
    asked |= {word.removesuffix("s") for word in asked}
    said = set(re.findall("[a-z-]+", entry["output"].lower()))
    return [(s, a) for subject, answer, s, a in QUESTIONS if subject <= asked and answer <= said]


DETECTORS = {family: reserved_words for family in WORD_FAMILIES} | {
    "arithmetic": reserved_sums,
    "unit_conversion": reserved_amounts,
    "dates": reserved_dates,
}
DETECTORS |= dict.fromkeys(KNOWLEDGE, reserved_questions)


@pytest.mark.parametrize("family", SCORED)
def test_no_training_item_of_a_family_holds_what_it_is_tested_with(family):
    for entry in of(family, LEARNT):
        assert not DETECTORS[family](entry), entry


def test_no_hand_written_item_answers_a_reserved_question():
    """In whatever family. What a program makes is of its own family's words, and the questions are not among them."""
    for entry in LEARNT:
        if entry["family"] in OPEN + SPOKEN or parsed(entry) is None:
            assert not reserved_questions(entry), entry


def test_nothing_is_said_about_facts_that_were_left_out():
    for _, subject, answer in RESERVED["left_out"]:
        for entry in LEARNT:
            assert not {subject.lower(), answer.lower()} <= words_in(whole(entry)), entry


def test_only_facts_that_pretraining_states_are_asked_for():
    """What the model cannot know would teach it to make up answers."""
    sys.path.insert(0, str(ROOT / "ch05_pretraining"))
    import knowledge

    read = [f for f in knowledge.load_facts() if f.family == "facts"]
    assert make_instructions.told() == [(f.relation, f.subject, f.answer) for f in read]
    read = {(f.relation, f.subject) for f in read}
    for entry in of("facts", LEARNT):
        if made := parsed(entry):
            assert (made[0], re.sub("^an? ", "", made[1][0])) in read, entry


@pytest.mark.parametrize("family", SCORED)
def test_every_test_item_holds_something_reserved(family):
    """The same detectors find it in each of them, so they can find it in a training item too."""
    for entry in of(family, SPLITS["test"]):
        found = DETECTORS[family](entry)
        if family == "sorting":
            found = found or reserved_numbers(entry)
        if family == "capitalisation" and not found:
            found = PEOPLE & set(re.findall(r"[A-Z][a-z]+", entry["output"]))
        if family == "statement_to_question" and not found:
            found = words_in(whole(entry)) & own_words("extraction")
        assert found, entry


def test_no_reserved_number_is_put_in_order():
    for entry in of("sorting", LEARNT):
        assert not reserved_numbers(entry), entry


def test_no_reserved_name_or_city_is_in_any_training_item():
    names = {name.lower() for name in PEOPLE}
    for entry in LEARNT:
        assert not words_in(whole(entry)) & names, entry


@pytest.mark.parametrize("family", WORD_FAMILIES)
def test_no_generated_training_item_holds_any_reserved_word(family):
    """In its input and answer; the instruction's own words may be reserved for another family."""
    kept = set(RESERVED["words"])
    for entry in of(family, LEARNT):
        if parsed(entry):
            frame = set().union(*(words_in(s) for s in make_instructions.PHRASES["sentences"]))
            assert not words_in(f"{entry['input']} {entry['output']}") & kept - frame, entry


@pytest.mark.parametrize("family", OPEN)
def test_what_an_open_task_is_tested_with_is_asked_in_no_training_item(family):
    """Whatever word is in no training prompt of the family but in a test item's: each has one."""
    asked = set().union(*(words_in(prompt(entry)) for entry in of(family, LEARNT)))
    alike = [entry for entry in of(family, SPLITS["test"]) if words_in(prompt(entry)) <= asked]
    assert len(alike) <= 1, alike  # "and" made of two words that were each asked for alone


@pytest.mark.parametrize("family", RULES)
def test_test_items_are_made_of_reserved_words_only(family):
    """Every value that fills a wording, word by word, but for the frames of sentences and the objects of verbs."""
    free = set(string.ascii_lowercase) | {month.lower() for month in MONTHS} | {"a", "an", "the"}
    free |= set().union(*(words_in(s) for s in make_instructions.PHRASES["sentences"]))
    free |= {"can", "will", "must", "is", "was", "did", "dozen"}
    free |= {word for row in UNITS for word in row[:4]}
    free |= {o for verb, *_ in KEPT["active_to_passive"]["verbs"] for o in LEXICON["transitive"][verb].split()}  # fmt: skip
    for entry in of(family, SPLITS["test"]):
        form, values = parsed(entry)
        assert words_in(" ".join(values)) <= set(RESERVED["words"]) | free, entry


# --- right answers, worked out again from the words asked about ---


def table(rows, one, other):
    return {row.split()[one]: row.split()[other] for row in rows}


PASTS = table(LEXICON["verbs_regular"] + LEXICON["verbs_irregular"], 0, 1)
BASES = table(LEXICON["verbs_regular"] + LEXICON["verbs_irregular"], 1, 0)
PARTICIPLES = table(LEXICON["verbs_regular"] + LEXICON["verbs_irregular"], 1, 2)
PLURALS = table(LEXICON["nouns_regular"] + LEXICON["nouns_irregular"], 0, 1)
PAIRS = LEXICON["opposites"] + LEXICON["opposites_by_rule"]
OPPOSITES = table(PAIRS, 0, 1) | table(PAIRS, 1, 0)
RHYMES = [set(group.split()) for group in LEXICON["rhymes"]]
FACTS = {(name, *row) for name, rows in lexicon.all_facts(LEXICON).items() for row in rows}


def right(entry, form, values):
    """What the answer must be; for several right ones, whether it is one."""
    family, output, first = entry["family"], entry["output"], values[0]
    match family:
        case "past_tense":
            return PASTS[first]
        case "plural":
            return PLURALS[first]
        case "antonym":
            return OPPOSITES[first]
        case "spelling":
            return "-".join(first) if form == "letters" else first.replace("-", "")
        case "active_to_passive":
            one, did, thing = re.fullmatch(r"(The \w+|\w+) (\w+) the (\w+)\.", first).groups()
            one = one.replace("The ", "the ")
            return f"The {thing} was {PARTICIPLES[did]} by {one}."
        case "statement_to_question":
            one, verb, *rest = re.fullmatch(r"(The \w+|\w+) (\w+)(?: (\w+))?\.", first).groups()
            one = one.replace("The ", "the ")
            if rest[0]:
                return f"{verb.capitalize()} {one} {rest[0]}?"
            return f"Did {one} {BASES[verb]}?"
        case "sorting":
            key = str if form == "words" else int
            return ", ".join(sorted(first.split(", "), key=key, reverse=form == "down"))
        case "counting":
            items = first.split(", ")
            return str(len(items) if form == "length" else items.count(values[1]))
        case "arithmetic":
            one, two = map(int, values)
            return str({"+": one + two, "-": one - two, "x": one * two}[form])
        case "unit_conversion":
            (number, unit), other = values[0].split(), values[1]
            for row in UNITS:
                larger, smaller = {*row[:2], "dozen" * (row[0] == "dozen")}, set(row[2:4])
                if unit in larger and other in smaller:
                    return f"{int(number) * int(row[4])} {other}"
                if unit in smaller and other in larger:
                    n, rest = divmod(int(number), int(row[4]))
                    assert rest == 0
                    return f"{n} {row[0] if n == 1 else other}"
        case "extraction":
            word = re.escape(output)
            assert re.search(rf"\b{word}\b", first)
            jobs, cities = LEXICON["jobs"], LEXICON["cities"]
            names = LEXICON["names_he"] + LEXICON["names_she"]
            known = {"job": jobs, "city": cities, "name": names}
            assert form == "age" or output in lexicon.joined(known[form])
            return output if form != "age" else re.search(r"\d+", first)[0]
        case "categories":
            kind = next(k for k, them in LEXICON["categories"].items() if first in them.split())
            return "body part" if kind == "body" else kind
        case "dates":
            figures = re.fullmatch(r"(\d+)/(\d+)/(\d+)", first)
            if figures:
                d, m, y = map(int, figures.groups())
                return MONTHS[m - 1] if form == "month" else f"{d} {MONTHS[m - 1]} {y}"
            d, month, *y = first.split()
            if form == "figures":
                return f"{d}/{MONTHS.index(month) + 1}/{y[0]}"
            return f"{int(d) + (1 if form == 'next' else -1)} {month}"
        case "capitalisation":
            return {"all": str.upper(first), "first": string.capwords(first)}.get(form, output)
        case "rhyme":
            assert first != output and any({first, output} <= group for group in RHYMES)
            return output
        case "facts":
            assert (form, re.sub("^an? ", "", first), output) in FACTS  # a finger has two wholes
            return output


@pytest.mark.parametrize("family", SCORED)
def test_generated_answers_are_right(family):
    checked = Counter()
    for entry in of(family):
        if made := parsed(entry):
            assert entry["output"] == right(entry, *made), entry
            checked[entry["split"]] += 1
    assert checked["train"] >= 500 and checked["test"] >= 40 and checked["validation"] == 30


def test_sentences_get_the_capitals_they_lost():
    """First letter, names and cities, and no other."""
    names = {name for key in ("names_he", "names_she", "cities") for name in lexicon.joined(LEXICON[key])}  # fmt: skip
    seen = 0
    for entry in of("capitalisation"):
        made = parsed(entry)
        if made and made[0] == "sentence":
            first, *rest = re.findall(r"\w+", entry["output"])
            assert entry["output"].lower() == made[1][0] and entry["output"][0].isdigit() + first[0].isupper() == 1  # fmt: skip
            assert all(word in names for word in rest if word[0].isupper())
            assert all(word.capitalize() not in names for word in rest if word[0].islower())
            seen += 1
    assert seen > 150


def test_days_beside_a_date_exist():
    days = {f"{d} {MONTHS[m - 1]}" for d, m in lexicon.all_dates()}
    for entry in of("dates"):
        made = parsed(entry)
        if made and made[0] in ("next", "last"):
            assert {entry["output"], made[1][0]} <= days and "29 February" not in whole(entry)


def test_answers_that_are_already_there_are_not_asked_for():
    for entry in of("sorting"):
        assert not parsed(entry) or entry["input"] != entry["output"], entry


def test_articles_are_right():
    wrong = re.compile(r"(?<![-,] )(?<!-)\b(?:[Aa] [aeio]\w|[Aa]n [bcdfgjklmnpqrstvwxyz]\w)")
    for entry in ENTRIES:
        assert not wrong.search(prompt(entry)) and not wrong.search(entry["output"]), entry
    assert wrong.search("It is a old one.") and wrong.search("Write an letter.")


# --- other right answers ---


def test_accepted_answers_are_other_answers_and_stand_where_answers_are_scored():
    assert not any("accept" in entry for entry in SPLITS["train"])
    for entry in SPLITS["validation"] + SPLITS["test"]:
        accept = entry.get("accept", [])
        assert entry["output"] not in accept and len(set(accept)) == len(accept), entry
        assert all(isinstance(other, str) and other.strip() == other != "" for other in accept)
    for family in ("rhyme", "categories", "unit_conversion", "counting"):
        assert any("accept" in entry for entry in of(family, SPLITS["test"]))


def test_every_hand_written_accepted_answer_belongs_to_an_item():
    """No list is kept under a misspelled word."""
    kinds = LEXICON["categories"]
    known = {
        "past_tense": set(PASTS),
        "plural": set(PLURALS),
        "antonym": set(OPPOSITES),
        "categories": set(kinds) | {word for them in kinds.values() for word in them.split()},
        "rhyme": set().union(*RHYMES),
        "facts": {f"{relation} {subject}" for relation, subject, _ in FACTS},
    }
    accept = make_instructions.PHRASES["accept"]
    assert set(accept) == set(known)
    for family, lists in accept.items():
        assert set(lists) <= known[family], set(lists) - known[family]


def test_no_accepted_opposite_is_the_word_itself_or_its_like():
    for entry in of("antonym", SPLITS["test"]):
        word = parsed(entry)[1][0]
        assert word not in (entry["output"], *entry.get("accept", [])), entry


# --- the file ---


def test_the_file_is_the_one_of_its_seed(tmp_path, capsys):
    make_instructions.main(["--out", str(tmp_path / "again.json")])
    again = (tmp_path / "again.json").read_bytes()
    assert again == (FOLDER / "instructions.json").read_bytes()
    assert f"train: {len(SPLITS['train']):,}" in capsys.readouterr().out
    assert make_instructions.instructions(7) != ENTRIES


def test_sizes():
    assert 10_000 <= len(SPLITS["train"]) <= 11_000 and 450 <= len(SPLITS["validation"]) <= 600
    assert len(ENTRIES) == sum(map(len, SPLITS.values()))
    assert (FOLDER / "instructions.json").stat().st_size < 3e6
    for family in SCORED:
        wordings = Counter(entry["wording"] for entry in of(family, SPLITS["test"]))
        assert set(wordings) == {"known", "reserved"} and len(set(wordings.values())) == 1
        assert 40 <= wordings["known"] <= 50, family
    for family in OPEN:
        assert 40 <= len(of(family, SPLITS["test"])) <= 60, family
    assert len(of("unknowable", SPLITS["test"])) == 40 and len(of("unread", SPLITS["test"])) == 40
    assert {entry["family"] for entry in ENTRIES} == {*SCORED, *OPEN, *SPOKEN, "unread"}
    assert Counter(entry["split"] for entry in CORE)["train"] == 1_000


def test_the_data_card_tells_the_sizes():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{len(ENTRIES):,} tasks" in card
    assert all(f"`{name}` ({len(them):,})" in card for name, them in SPLITS.items())
    for family in [*SCORED, *OPEN, *SPOKEN, "unread"]:
        sizes = " | ".join(str(len(of(family, them))) for them in SPLITS.values())
        wordings = sum(map(len, WORDINGS.get(family, {}).values())) or ""
        assert f"| {family} | {sizes} | {wordings} |".replace("|  |", "| |") in card, family


def test_every_entry_is_whole():
    for entry in ENTRIES:
        keys = {"instruction", "input", "output", "family", "split"}
        assert keys <= set(entry) <= keys | {"accept", "before", "wording"}
        for key in ("instruction", "input", "output"):
            assert entry[key] == " ".join(entry[key].split()), entry
        assert entry["instruction"] and entry["output"] and entry["instruction"].isascii()
        assert "{" not in whole(entry) and "|" not in whole(entry), entry


def test_no_task_stands_there_twice():
    texts = Counter((entry["instruction"], entry["input"]) for entry in ENTRIES)
    assert [text for text, n in texts.items() if n > 1] == []


def test_each_family_is_put_in_many_ways():
    for family in SCORED:
        used = {
            matched(family, e["instruction"] + (f" | {e['input']}" if e["input"] else ""))[0]
            for e in of(family, LEARNT)
            if parsed(e)
        }
        known = sum(map(len, WORDINGS[family].values()))
        assert 0.75 * known <= len(used) and max(used) < known, family  # and none of the reserved


def test_the_test_asks_for_each_thing_in_a_known_and_in_a_reserved_wording():
    for family in SCORED:
        count = sum(map(len, WORDINGS[family].values()))
        for entry in of(family, SPLITS["test"]):
            text = entry["instruction"] + (f" | {entry['input']}" if entry["input"] else "")
            number, form, values = matched(family, text)
            assert entry["wording"] == ("reserved" if number >= count else "known"), entry
        items = defaultdict(set)
        for entry in of(family, SPLITS["test"]):
            items[entry["wording"]].add((parsed(entry)[0], entry["output"]))
        assert items["known"] == items["reserved"], family


def test_a_part_of_the_training_items_is_mixed():
    """Any thousand hold every family, so that a short training sees them all."""
    for part in (SPLITS["train"][:1_000], SPLITS["train"][-1_000:]):
        counts = Counter(entry["family"] for entry in part)
        assert set(counts) >= set(SCORED + OPEN) and min(counts[f] for f in SCORED + OPEN) >= 5
        assert max(counts.values()) < 100


@pytest.mark.parametrize(
    "family", ["past_tense", "plural", "antonym", "categories", "rhyme", "facts"]
)
def test_a_word_or_fact_is_tested_once(family):
    asked = Counter(
        (form if family == "facts" else "", re.sub("^an? ", "", values[0]))
        for form, values in map(parsed, of(family, SPLITS["test"]))
    )
    assert set(asked.values()) == {2}  # once in a known, once in a reserved wording


def test_prompts_are_short():
    encoding = encodings.course_encoding()
    lengths = sorted(len(encoding.encode_ordinary(short_prompt(entry))) for entry in ENTRIES)
    assert lengths[len(lengths) // 2] < 25 and lengths[-1] < 100


# --- the hand-written ones ---


def test_every_family_has_hand_written_entries():
    counts = Counter(entry["family"] for entry in CORE if entry["split"] == "train")
    assert all(counts[family] >= 30 for family in SCORED) and all(counts[f] > 150 for f in OPEN)
    assert len(WRITTEN) == len(CORE)
    there = {(entry["instruction"], entry["input"]) for entry in ENTRIES}
    missing = [e for e in CORE if (e["instruction"], e["input"]) not in there]
    assert len(missing) < 120 and all(held_apart.tested(entry) for entry in missing)
    counts = Counter(entry["family"] for entry in LEARNT if (entry["instruction"], entry["input"]) in WRITTEN)  # fmt: skip
    assert all(counts[family] >= 9 for family in SCORED)


def test_open_answers_are_sentences():
    for entry in CORE:
        if entry["family"] in OPEN:
            assert re.match(r'["A-Z]', entry["output"]) and entry["output"][-1] in ".!?", entry


def test_sentences_hold_the_words_they_were_asked_for():
    checked = 0
    for entry in of("write_sentence"):
        quoted = re.findall(r'"([^"]+)"', entry["instruction"])
        quoted += [entry["input"]] if entry["instruction"] == "Use the word in a sentence." else []
        for asked in quoted:
            assert re.search(rf"\b{asked}\b", entry["output"], re.IGNORECASE), entry
            checked += 1
        about = re.fullmatch(r"Write a short sentence about (?:an?|the|your )?\s*(\w+)\.", entry["instruction"])  # fmt: skip
        if about:
            assert about[1] in words_in(entry["output"]), entry
            checked += 1
        if number := re.search(r"exactly (\w+) words", entry["instruction"]):
            assert lexicon.NUMBERS.index(number[1]) == len(entry["output"].split()), entry
    assert checked > 130


def test_hand_written_pasts_plurals_and_opposites_agree_with_the_lexicon():
    """The simplest of them: one known word asked about, a single word answered."""
    known, agreed = {"past_tense": PASTS, "plural": PLURALS, "antonym": OPPOSITES}, Counter()
    for entry in CORE:
        family, output = entry["family"], entry["output"]
        if family in known and output.isalpha() and "singular" not in entry["instruction"]:
            asked = words_in(prompt(entry)) & set(known[family])
            agreed[family] += any(known[family][word] == output for word in asked)
    assert agreed["past_tense"] >= 15 and agreed["plural"] >= 15 and agreed["antonym"] >= 12


# --- editions ---


def test_the_course_gets_every_entry_with_the_same_keys(monkeypatch):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    entries = editions.instructions()
    assert len(entries) == len(ENTRIES)
    assert {frozenset(entry) for entry in entries} == {
        frozenset("instruction input output family split accept before wording".split())
    }
    more = {"accept": [], "before": [], "wording": "known"}
    assert [more | entry for entry in ENTRIES] == entries


def book(monkeypatch, tmp_path, content):
    """A stand-in for the book's file."""
    path = tmp_path / "instruction-data.json"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("COURSE_DATA", "book")
    monkeypatch.setattr(assets, "fetch", {"instruction-data.json": path}.get)
    return path


def test_the_books_instructions_on_a_stand_in(monkeypatch, tmp_path):
    given = [{"instruction": f"Do {i}.", "input": "", "output": f"é {i}"} for i in range(1_100)]
    book(monkeypatch, tmp_path, json.dumps(given))
    entries = editions.instructions()
    assert [{key: e[key] for key in given[0]} for e in entries] == given
    assert set(entries[0]) == set(editions.read_instructions(editions.INSTRUCTIONS)[0])
    splits = [(split, len(list(them))) for split, them in itertools.groupby(e["split"] for e in entries)]  # fmt: skip
    assert splits == [("train", 935), ("test", 110), ("validation", 55)]
    assert {entry["family"] for entry in entries} == {"book"}


ENTRY = {"instruction": "Add 1 and 1.", "input": "", "output": "2"}


@pytest.mark.parametrize(
    "content, reason",
    [
        ("{", "is not JSON"),
        ('{"instruction": "x"}', "no list of entries, but dict"),
        ('["x"]', "entry 0 has no text under 'instruction'"),
        (json.dumps([ENTRY, {"instruction": "x", "input": ""}]), "entry 1 has no text under 'output'"),
        (json.dumps([ENTRY, ENTRY | {"input": None}]), "entry 1 has no text under 'input'"),
        (json.dumps([ENTRY | {"instruction": " \n"}]), "entry 0 has an empty instruction"),
    ],
    ids=["broken", "object", "strings", "no output", "null input", "empty instruction"],
)  # fmt: skip
def test_files_that_are_no_list_of_instructions(monkeypatch, tmp_path, content, reason):
    path = book(monkeypatch, tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        editions.instructions()
    assert str(path) in str(caught.value)


def test_the_detectors_find_what_they_look_for():
    """Planted in other words than the generator's."""
    base = {"input": "", "split": "train"}
    planted = defaultdict(list)
    planted["spelling"] = [("Spell it.", "b-l-a-z-e"), ("Join: b, l, a, z, e", "yes")]
    planted["capitalisation"] = [("Write it.", "DUSK"), ("dusk", "Dusk")]
    planted["arithmetic"] = [("Add 13 to 2.", "15"), ("I had 15 pens and lost 5.", "10")]
    planted["unit_conversion"] = [("How long are 28 days, in weeks?", "4 weeks"), ("Is it 4 weeks or 3 days?", "x")]  # fmt: skip
    planted["dates"] = [("Was it the 4th of February?", "no"), ("4/2/1900", "1900")]
    planted["facts"] = [("What is a little lion called?", "It is a cub."), ("Name the letter after h.", "i")]  # fmt: skip
    planted["rhyme"] = [("What goes with day?", "way")]
    planted["categories"] = [("Say what donkeys are.", "an animal")]
    planted["describe"] = [("Describe a bee.", "A bee is an insect.")]
    for family, items in planted.items():
        for instruction, output in items:
            entry = base | {"family": family, "instruction": instruction, "output": output}
            assert DETECTORS.get(family, reserved_questions)(entry), entry
            if family != "unit_conversion":  # one of which it may miss
                assert held_apart.tested(entry), entry
