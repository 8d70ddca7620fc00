"""What chapter 8 refuses: judgments that prefer nothing, pairs that do not fit, counts that do not match."""


def chosen_and_rejected(record: dict) -> dict:
    """A judgment `{"prompt", "response_1", "response_2", "preferred": 1 or 2}` as `{"prompt", "chosen", "rejected"}`.

    ValueError where nothing is preferred: another number, or two equal responses.
    """
    if missing := [key for key in ("prompt", "response_1", "response_2", "preferred") if key not in record]:  # fmt: skip
        raise ValueError(f"the judgment lacks {', '.join(missing)}")
    first, second, preferred = (record[key] for key in ("response_1", "response_2", "preferred"))
    if isinstance(preferred, bool) or preferred not in (1, 2):
        raise ValueError(f"preferred is {preferred!r}; it must be 1 or 2. Leave ties out")
    if first.strip() == second.strip():
        raise ValueError(f"both responses are {first!r}: neither can be preferred")
    chosen, rejected = (first, second) if preferred == 1 else (second, first)
    return {"prompt": record["prompt"], "chosen": chosen, "rejected": rejected}


def check_pair(number: int, entry: dict) -> None:
    """Raise ValueError unless an entry has a chosen and a rejected response, texts that differ."""
    sides = [entry.get(side) for side in ("chosen", "rejected")]
    for side, text in zip(("chosen", "rejected"), sides):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"entry {number} has no text under {side!r}")
    if sides[0].strip() == sides[1].strip():
        raise ValueError(f"entry {number}: chosen and rejected are equal, so it prefers nothing")


def check_fits(number: int, pair: dict, most: int) -> None:
    """Raise ValueError for a pair that would have to be cut: it may become equal, and answers lose their end."""
    for side in "chosen", "rejected":
        if (tokens := len(pair["prompt"]) + len(pair[side])) > most:
            raise ValueError(
                f"entry {number}, {side}: prompt, response and end token are {tokens} tokens, and {most} are allowed. "
                "Shorten it or leave it out: cut off, it would teach that an answer never ends"
            )


def check_draws(scores: int, values: int, n: int) -> None:
    """Raise ValueError unless there are as many scores as values, and n of them can be drawn."""
    if scores != values:
        raise ValueError(f"{scores} scores, but {values} values: one each for every draw")
    if not 1 <= n <= scores:
        raise ValueError(f"n is {n}; there are {scores} draws, so it must be 1 to {scores}")


def check_paired(ours, theirs) -> None:
    """Raise ValueError unless two tables `(prompts, samples)` are about the same prompts."""
    if ours.dim() != 2 or theirs.dim() != 2 or len(ours) != len(theirs) or not len(ours):
        raise ValueError(
            f"verdicts are (prompts, samples), of the same prompts; got {tuple(ours.shape)} and {tuple(theirs.shape)}"
        )
