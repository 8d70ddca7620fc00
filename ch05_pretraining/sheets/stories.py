"""Sheets that tell of people and ask about them; tales in which invented names come back."""

import random

from shared.invented import a, invent_name
from shared.lexicon import Words

from .helpers import clause, deed, forms, say, speaker, stack

HAVING = forms("""
{one} has {a_tint} {thing} and is in the {place}.
{one} went to the {place} with {a_tint} {thing}.
In the {place} stood {one} with {a_tint} {thing}.
{one} took the {tint} {thing} to the {place}.
""")
SWAPPED = "Then {0} and {1} changed: {0} got the {2}, {1} got the {3}."
ASKED = forms("""
Who has the {thing}? {one}.
Where is {one}? In the {place}.
Whose is the {thing}? It is {one}'s.
{one}: {thing}
And {one}? {one} has the {thing}.
Who is in the {place}? {one}.
""")


def who_has(rng: random.Random, w: Words) -> str:
    """People get, lose and give away things; then who has what, and who is where."""
    people = list(dict.fromkeys(speaker(rng, w) for _ in range(rng.randint(2, 5))))
    at = dict(zip(people, rng.sample(w.places, len(people))))
    has, story = {}, []
    for one, thing in zip(people, rng.sample(w.things, len(people))):
        tint = rng.choice(w.colours)
        has[one] = f"{tint} {thing}"
        story.append(
            say(rng, HAVING, one=one, a_tint=a(tint), tint=tint, thing=thing, place=at[one])
        )
    for _ in range(rng.randint(0, 2) if len(people) > 1 else 0):
        one, two = rng.sample(people, 2)
        has[one], has[two] = has[two], has[one]
        story.append(SWAPPED.format(one, two, has[one], has[two]))
    chosen = rng.choices(people, k=rng.randint(3, 8))
    asked = [say(rng, ASKED, one=one, thing=has[one], place=at[one]) for one in chosen]
    return " ".join(story) + "\n" + rng.choice(("\n", " ")).join(asked)


SAID = forms('{0} said, "{1}."\n"{1}," said {0}.\n{0}: {1}.')
WHO_SAID = forms('Who said "{1}"? {0}.\nWhich words were {0}\'s? "{1}."\n{0} said: "{1}."')


def who_said(rng: random.Random, w: Words) -> str:
    """People say things; then who said what."""
    said = {speaker(rng, w): clause(rng, w) for _ in range(rng.randint(2, 5))}
    story = [say(rng, SAID, one, words) for one, words in said.items()]
    chosen = rng.choices(list(said), k=rng.randint(2, 6))
    return "\n".join(story + [say(rng, WHO_SAID, one, said[one]) for one in chosen])


LIVES = forms("""
{0} is {4} of {3} and lives in {2}.
In {2} lives {4}, {0}, who is {3} years old.
{0}, who is {3}, went to {2} to be {4}.
The {1} of {2} is {0}, {3} years old.
""")
CARD_KEYS = [("name", "work", "town", "age"), ("who", "trade", "where", "years"), tuple("NWTA")]


def cards(rng: random.Random, w: Words) -> str:
    """Sentences about people, and the same facts on a card; or the other way round."""
    keys, shown = rng.choice(CARD_KEYS), rng.sample(range(4), rng.randint(2, 4))
    end, card_first = rng.choice(("\n", ", ", "; ")), rng.random() < 0.2

    def make():
        city = rng.choice(w.cities) if rng.random() < 0.7 else invent_name(rng, w)
        fields = (speaker(rng, w), rng.choice(w.jobs), city, rng.randint(5, 99))
        card = end.join(f"{keys[i]}: {fields[i]}" for i in shown)
        both = [say(rng, LIVES, *fields, a(fields[1])), card]
        return "\n".join(both[::-1] if card_first else both)

    return stack(rng, make)


OPENINGS = forms("""
There was once {a_job} whose name was {one}.
In the town of {town} there lived {a_job} called {one}.
{one} was {a_job}, and {two} was a friend of {one}.
{one} was the child of {two}, {a_job} in {town}.
"My name is {one}," said the {job}.
""")
EVENTS = forms("""
{one} {act}.
{one} {act}, and {two} {then}.
When {one} {act}, {two} {then}.
"{talk}," said {one}.
"Where is {two}?" asked {one}. "{two} is in {town}," they said.
So {one} and {two} left {town} and came to {land}.
"O {two}," cried {one}, "come to {land} with me!"
Then {one} {manner} went back to {land}.
Then {one} {manner} left {town}.
But {one}'s {thing} was still at {two}'s.
""")


def tale(rng: random.Random, w: Words) -> str:
    """Prose, or nearly, in which invented names come back."""
    names = [invent_name(rng, w) for _ in range(rng.randint(2, 4))]
    slots = {"town": invent_name(rng, w), "land": invent_name(rng, w), "job": rng.choice(w.jobs)}
    lines = [say(rng, OPENINGS, a_job=a(slots["job"]), one=names[0], two=names[1], **slots)]
    for _ in range(rng.randint(4, 12)):
        one, two = rng.sample(names, 2)
        slots |= {"act": deed(rng, w, two), "then": deed(rng, w, rng.choice((one, "them")))}
        slots |= {
            "talk": clause(rng, w),
            "thing": rng.choice(w.things),
            "manner": rng.choice(w.adverbs),
        }
        lines.append(say(rng, EVENTS, one=one, two=two, **slots))
    return rng.choice((" ", " ", "\n\n")).join(lines)
