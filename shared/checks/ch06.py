"""Checks of chapter 6: one for each exercise."""

import builtins
import contextlib
import inspect
import math
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shared.checks import Verdict, exercise, require
from shared.checks.returned import number, numbers

TINY = {"context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
TINY |= {"drop_rate": 0.0, "qkv_bias": False}
PLACES = ("first token", "last position", "last real token")


def _bytes(*more):
    """A tokenizer whose tokens are bytes, more of several letters, and <|endoftext|>."""
    from shared.text_data import make_encoding

    tokens = [*(bytes([b]) for b in range(256)), *more]
    return make_encoding("bytes", {token: i for i, token in enumerate(tokens)}, ("<|endoftext|>",))


def _classifier(seed=0, drop_rate=0.0, V=257):
    """A small untrained GPT with two classes; its weights are large, so that every token matters."""
    from shared.classification import classifier_from
    from shared.gpt_model import GPTModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cfg = TINY | {"vocab_size": V, "drop_rate": drop_rate}
        return classifier_from(GPTModel(cfg), cfg)


def _padded(lengths, width, pad, generator):
    """Random messages of these lengths, padded to a width: `(N, width)`."""
    ids = torch.randint(256, (len(lengths), width), generator=generator)
    ids += (ids >= pad).long()  # no message holds the padding token
    return torch.where(torch.arange(width) < torch.tensor(lengths)[:, None], ids, pad)


def _read_at(model, ids, pad):
    """The logits of each message at each of PLACES, and one token too far: `{place: (N, 2)}`."""
    with torch.no_grad():
        logits = model(ids)
    last = (ids != pad).sum(dim=1) - 1
    rows, after = torch.arange(len(ids)), (last + 1).clamp(max=ids.shape[1] - 1)
    found = dict(zip(PLACES, (logits[:, 0], logits[:, -1], logits[rows, last])))
    return found | {"first padding token": logits[rows, after]}


def _require_place(model, text, ids, got, T):
    """Refuse the logits `(2,)` of a message, and say what of it was read, if that can be found out."""
    case = f"the logits of {text!r} are not those of its last real token"
    with torch.no_grad():
        first, last = (model(torch.tensor([part]))[0] for part in (ids[:T], ids[-T:]))
    near = (first[:-1] - got).abs().amax(dim=1) < 1e-4
    if near.any():
        n = near.nonzero()[-1].item() + 1
        raise Verdict(f"{case}: you read it after {n} of its {len(ids)} tokens; {T} fit")
    behind = len(ids) > T and torch.allclose(last[-1], got, atol=1e-4)
    require(not behind, f"{case}: a message that is too long loses its end, not its beginning")
    raise Verdict(case)


@exercise
def logits_at_full_context(answer):
    """`answer(texts, model, tokenizer, pad_token_id)` -> logits `(N, 2)`, padded to the whole context."""
    tokenizer = _bytes(b"ha")  # two letters, one token
    pad, T = tokenizer.eot_token, TINY["context_length"]
    model, widths = _classifier(V=pad + 1).eval(), set()
    model.register_forward_pre_hook(lambda module, args: widths.add(args[0].shape[1]))
    short = ["see you at 8", "WIN", "<|endoftext|> you won", "y"]  # here cut columns would show
    # what else somebody might pad with, and then takes for padding at the end of a message
    ends = ["zero\0", "a space ", "a line\n", "a tab\t", "a stop.", "a zero 0", "a box", "a_"]
    long = ["see you at 8", "a message that is longer than this context", "x" * T, "ha" * 20]
    for texts in (short, ends, long):
        whole = [tokenizer.encode_ordinary(text) for text in texts]
        ids = torch.tensor([one[:T] + [pad] * (T - len(one)) for one in whole])
        read = _read_at(model, ids, pad)
        want = read["last real token"]
        widths.clear()
        got = answer(list(texts), model, tokenizer, pad)
        require(isinstance(got, torch.Tensor), f"a tensor is asked for, not {type(got).__name__}")
        shape = f"{len(texts)} messages, two classes"
        require(got.shape == want.shape, f"the shape is {tuple(got.shape)}; {shape}")
        require(not got.isnan().any(), "some of the logits are nan, not numbers")
        if not torch.allclose(got.float(), want, atol=1e-4):
            shares = torch.allclose(got.float(), want.softmax(dim=-1), atol=1e-4)
            require(not shares, "these are probabilities; the logits before the softmax are asked")
            for place in read.keys() - {"last real token"}:
                same = torch.allclose(got.float(), read[place], atol=1e-4)
                require(not same, f"you read the {place}; the message ends at its last real token")
            row = (got - want).abs().amax(dim=1).argmax().item()
            _require_place(model, texts[row], whole[row], got[row].float(), T)
        given = f"the model got messages of {sorted(widths)} tokens"
        require(widths == {T}, f"{given}; its whole context, {T}, was asked for")
    return f"the same logits at {T} tokens as without padding: no real token sees what follows it"


@exercise(changes=(0,))
def optimizer_for(answer):
    """`answer(model, part)` -> an AdamW optimizer that moves that part alone: head, last block or all."""
    from shared.classification import train_only

    parts = {"head": ("out_head",), "last block": ("trf_blocks.1.", "final_norm", "out_head")}
    x, y = torch.tensor([[72, 105, 33, 1]]), torch.tensor([1])
    for part in ("head", "last block", "all"):
        model = _classifier()
        F.cross_entropy(model(x)[:, -1], y).backward()  # gradients of a training before
        train_only(model, "head")  # and what it froze
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer = answer(model, part)
        kind = type(optimizer).__name__
        require(isinstance(optimizer, torch.optim.AdamW), f"AdamW is asked for, not {kind}")
        for name, p in model.named_parameters():
            same = name in before and p.equal(before[name])
            require(same, f"{name} is not what it was before any step: leave the weights alone")
        for name, asked in (("lr", 1e-3), ("weight_decay", 0.1)):
            values = [float(group[name]) for group in optimizer.param_groups]
            # vectors need no decay, and every group needs the learning rate
            for value in values if name == "lr" else [max(values)]:
                require(abs(value - asked) < 1e-9, f"{name} is {value:g}; {asked:g} was asked for")
        for _ in range(2):
            optimizer.zero_grad(set_to_none=False)  # a gradient of 0 lets AdamW shrink a weight
            F.cross_entropy(model(x)[:, -1], y).backward()
            optimizer.step()
        for name, p in model.named_parameters():
            trained = part == "all" or name.startswith(parts[part])
            row = slice(None)
            if name.startswith(("tok_emb", "pos_emb")):  # only what occurred has a gradient
                row = x[0] if name.startswith("tok") else slice(4)
            moved = not p[row].equal(before[name][row])
            require(moved or not trained, f"{part}: {name} did not move, but belongs to it")
            if moved and not trained:
                share = (p * before[name]).sum() / before[name].square().sum()
                shrunk = share < 1 and torch.allclose(p, share * before[name], atol=1e-6)
                why = "it shrank: frozen, and still in the optimizer's weight decay"
                raise Verdict(f"{part}: {name} moved; {why if shrunk else 'it is frozen'}")
    return "each part moves alone, and what is frozen does not even shrink"


def _right_of_six(answer):
    """How many of the card's six messages the best rule gets right."""
    return round(
        6 * float(answer(torch.tensor([5, 5, 5, 8, 8, 9]), torch.tensor([1, 0, 1, 0, 0, 1])))
    )


@exercise(guess=_right_of_six)
def best_with_first_token(answer):
    """`answer(first_tokens, labels)` -> the accuracy of the best rule that sees first tokens only."""
    generator = torch.Generator().manual_seed(0)
    for n, kinds, p in ((40, 5, 0.3), (200, 30, 0.15), (9, 20, 0.5), (50, 1, 0.9)):
        first = torch.randint(kinds, (n,), generator=generator)
        labels = (torch.rand(n, generator=generator) < p).long()
        groups = [labels[first == token] for token in first.unique()]
        want = sum(max(int(g.sum()), len(g) - int(g.sum())) for g in groups) / n
        got = number(answer(first, labels), "the share is asked for, one number")
        require(not math.isnan(got), "the share is nan, not a number: what was divided by nothing?")
        if abs(got - want) < 1e-4:
            continue
        share = labels.float().mean().item()
        case = f"{n} messages with {len(groups)} different first tokens"
        require(
            abs(got - max(share, 1 - share)) > 1e-4 or len(groups) == 1,
            f"{case}: {got:.3f} is the share of the larger class; a rule may answer by token",
        )
        means = sum(max(g.float().mean().item(), 1 - g.float().mean().item()) for g in groups)
        require(
            abs(got - means / len(groups)) > 1e-4,
            f"{case}: you average over tokens, and a rare one counts as much as a frequent one",
        )
        require(abs(got - want * n) > 1e-4, f"{case}: that is a count; a share is asked for")
        raise Verdict(f"{case}: the best rule is right in {want:.3f}, you say {got:.3f}")
    return "of each first token the more frequent class, added up over all messages"


@exercise
def repaired_accuracy(answer):
    """`answer(model, loader, pad_token_id)` -> the share of a loader's messages that is right."""
    pad = _bytes().eot_token
    generator = torch.Generator().manual_seed(1)
    asked = "the share is asked for, one number"
    for sizes, training in [((32, 32, 5), False), ((32, 32, 5), True), ((3, 40), True)]:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = _classifier(seed=len(sizes), drop_rate=0.5).eval()
            lengths = torch.randint(1, 17, (sum(sizes),), generator=generator).tolist()
            ids = _padded(lengths, 20, pad, generator)
            read = {
                place: logits.argmax(dim=-1) for place, logits in _read_at(model, ids, pad).items()
            }
            # right in most messages of the first batch, in few of the last
            chance = torch.cat([torch.full((n,), 0.9 - 0.4 * i) for i, n in enumerate(sizes)])
            flip = torch.rand(sum(sizes), generator=generator) > chance
            labels = torch.where(flip, 1 - read["last real token"], read["last real token"])
            batches = [part.tolist() for part in torch.arange(sum(sizes)).split(sizes)]
            loader = DataLoader(TensorDataset(ids, labels), batch_sampler=batches)
            recorded = []
            model.register_forward_hook(lambda *call, to=recorded: to.append(call[2].requires_grad))
            model.train(training)
            got, again = (number(answer(model, loader, pad), asked) for _ in range(2))
        require(not math.isnan(got), "the share is nan, not a number: what was divided by nothing?")
        mode = "training" if training else "evaluation"
        case = f"batches of {', '.join(map(str, sizes))}, {mode} mode"
        right = {place: (guess == labels).float() for place, guess in read.items()}
        want = right["last real token"].mean().item()
        if abs(got - want) < 1e-4 and got == again:
            why = "gradients are recorded, which nobody asks for: that is the memory"
            require(not any(recorded), f"{case}: the number is right, but {why}")
            continue
        require(got == again, f"{case}: asked twice, it answers differently: dropout is active")
        shares = [part.mean().item() for part in right["last real token"].split(sizes)]
        require(
            abs(got - sum(shares) / len(shares)) > 1e-4,
            f"{case}: batches are averaged, and a small one counts as much as a large one",
        )
        for place in right.keys() - {"last real token"}:
            means = [part.mean().item() for part in right[place].split(sizes)]
            for wrong in (right[place].mean().item(), sum(means) / len(means)):
                require(abs(got - wrong) > 1e-4, f"{case}: you read the {place} of each message")
        raise Verdict(f"{case}: {want:.4f} of the messages are right, you say {got:.4f}")
    return "every message counts once, read at its last real token, without dropout"


def _parts(seed, noise=1.3):
    """Features `(N, 4)` and labels of three parts; one message in six is of class 1."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, n in (("train", 600), ("validation", 240), ("test", 300)):
        labels = (torch.rand(n, generator=generator) < 1 / 6).long()
        features = noise * torch.randn(n, 4, generator=generator)
        features[:, :2] += 2.0 * labels[:, None] - 1.0
        found[name] = features, labels
    return found


def _probabilities(predict, features):
    """What a filter says of features `(N, F)`: `(N,)`; refused where it is no probability of each message alone."""
    given = features.clone()
    p = torch.as_tensor(predict(given)).double()
    require(given.equal(features), "predict changed the features that it was given: work on a copy")
    shape = tuple(p.shape)
    require(shape == (len(features),), f"predict returns {shape}; one probability a message")
    require(((p >= 0) & (p <= 1)).all(), "predict does not return probabilities")
    few = torch.as_tensor(predict(features[:20].clone())).double()
    beside = "what predict says of a message depends on the messages that it is asked about with it"
    require(few.shape == (20,) and torch.allclose(few, p[:20], atol=1e-5), beside)
    return p


@exercise
def spam_filter(answer):
    """`answer(parts)` -> (predict, threshold): trained on train, chosen on validation, test untouched."""
    from shared.classification import scores

    def run(parts, seed=7):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found = answer({name: (x.clone(), y.clone()) for name, (x, y) in parts.items()})
            pair = isinstance(found, tuple | list) and len(found) == 2
            require(pair and callable(found[0]), "a function and a threshold are asked for")
            with torch.no_grad():
                said = [_probabilities(found[0], parts[name][0]) for name in ("validation", "test")]
        return *said, float(number(found[1], "one threshold is asked for"))

    parts = _parts(0)
    (_, said, threshold), (_, again, too) = run(parts), run(parts, seed=8)
    same = said.equal(again) and threshold == too
    require(same, "two runs on the same parts differ: draw random numbers with a seed")
    for name in ("validation", "test"):
        x, y = parts[name]
        # as many again of messages like no other, and all labels turned around: behind the answer's back
        for what, changed in (
            ("labels", (x, 1 - y)),
            ("messages", (torch.cat([x, x + 9]), torch.cat([y, y]))),
        ):
            _, asked, moved = run(parts | {name: changed})
            require(
                torch.allclose(asked[: len(said)], said, atol=1e-5),
                f"predictions moved with the {name} {what}: these were used in training, or to end it",
            )
            require(
                name == "validation" or abs(moved - threshold) < 1e-6,
                f"the threshold moved with the test {what}: the test was used to choose it",
            )
    for seed in (0, 1, 2):
        parts = _parts(seed)
        p, asked, threshold = run(parts)
        spam = parts["test"][1] == 1
        above = (asked[spam][:, None] > asked[~spam]).float().mean().item()
        below = (asked[spam][:, None] < asked[~spam]).float().mean().item()
        turned = "predict gives the probability of class 0; that of class 1 is asked for"
        require(below < 0.8, turned)
        require(above > 0.8, f"predict hardly separates the classes ({above:.2f}; 0.5 is chance)")
        y = parts["validation"][1]
        best = max(scores(y, (p >= t).long())["F1"] for t in p.tolist())
        reached = scores(y, (p >= threshold).long())["F1"]
        require(
            reached > best - 1e-6,
            f"F1 on the validation messages is {reached:.3f} at your threshold {threshold:.3f}; {best:.3f} can be had",
        )
    return "trained on the one part, the threshold from the second, and the third never seen"


# Texts that only look equal: each pair must be able to stand on two sides.
UNEQUAL = [
    ("to day {}", "today {}"),
    ("see you {}!", "see you {}"),
    ("very very good {}", "very good {}"),
    ("{} or not", "not or {}"),
    ("naïve {}", "naive {}"),
]
SIDES = ("training", "validation", "test")


def _key(text):
    return " ".join(text.lower().split())


def _messages(word):
    """A table of messages: copies that differ in case, spaces, label or nothing, and pairs of UNEQUAL."""
    import pandas as pd

    texts = [f"{word} number {i}" for i in range(140)]
    texts += [text.format(f"{word} {i}") for i in range(10) for pair in UNEQUAL for text in pair]
    copies = [*texts[:30], *texts[:30], *texts[60:80], *[texts[5]] * 260]
    loosely = [str.upper, str.title, " {}".format, "{}\n".format, "\t{} ".format]
    loosely += [lambda text, gap=gap: text.replace(" ", gap) for gap in ("  ", "   ", " \t", "\n")]
    copies += [change(text) for text in texts[90:] for change in loosely[len(text) % 3 :: 3]]
    rows = pd.DataFrame({"text": [*texts, *copies]})
    rows["label"] = [i // 2 % 2 for i in range(len(rows))]
    rows["sender"] = range(len(rows))  # the check knows a row by it
    rows = rows.sample(frac=1, random_state=0)
    return rows.set_index(rows.sender.to_numpy() // 2)  # two rows of one name, in no order


def _sides(answer, df, fractions, seed):
    """The side of each row: `{sender: 0, 1 or 2}`; Verdict unless every row came back once, as it was."""
    import pandas as pd

    parts = answer(df.copy(), *fractions, seed)
    three = isinstance(parts, tuple | list) and len(parts) == 3
    tables = three and all(isinstance(part, pd.DataFrame) for part in parts)
    require(tables, "three tables are asked for, training, validation and test")
    for part, name in zip(parts, SIDES):
        columns = f"the {name} part has the columns {list(part)}, not {list(df)}"
        require(list(part) == list(df), columns)
    count = sum(map(len, parts))
    require(count == len(df), f"{count} rows came back of {len(df)}: each must come once")
    back, given = (sorted(table.itertuples(index=False)) for table in (pd.concat(parts), df))
    require(back == given, "a row came back with another text or label, or twice")
    return {sender: side for side, part in enumerate(parts) for sender in part.sender}


@contextlib.contextmanager
def _other_hash(answer):
    """Within the block `hash`, where the answer's own cells call it, is that of another Python process."""
    real, names = builtins.hash, getattr(inspect.unwrap(answer), "__globals__", None)

    def another(value):
        return real((value, 1) if sys._getframe(1).f_globals is names else value)

    builtins.hash = another
    try:
        yield
    finally:
        builtins.hash = real


@exercise
def split_texts(answer):
    """`answer(df, train_frac, validation_frac, seed)` -> three tables; equal texts on one side."""
    df = _messages("message")
    keys = dict(zip(df.sender, df.text.map(_key)))
    distinct, together = len(set(keys.values())), dict.fromkeys(UNEQUAL, True)
    found = []
    for fractions, seed in (((0.7, 0.1), 1), ((0.7, 0.1), 2), ((0.5, 0.3), 3)):
        sides = _sides(answer, df, fractions, seed)
        found.append(sides)
        for norm, kind in ((str, "exactly equal"), (_key, "equal but for case and spaces")):
            seen = {}
            for sender, text in zip(df.sender, df.text):
                seen.setdefault(norm(text), set()).add(sides[sender])
            apart = [places for places in seen.values() if len(places) > 1]
            if apart:
                one, other, *_ = sorted(apart[0])
                where = f"in {SIDES[one]} and in {SIDES[other]}"
                raise Verdict(f"{len(apart)} texts, {kind}, stand {where}")
        by_key = {key: sides[sender] for sender, key in keys.items()}
        for side, share in enumerate((*fractions, 1 - sum(fractions))):
            got = sum(place == side for place in by_key.values()) / distinct
            about = (
                f"the {SIDES[side]} part has {got:.0%} of the distinct texts, not about {share:.0%}"
            )
            require(abs(got - share) < 0.1, about)  # a split by digests is only about right
        for pair in UNEQUAL:
            ones = [[by_key[_key(text.format(f"message {i}"))] for text in pair] for i in range(10)]
            together[pair] &= all(one == other for one, other in ones)
    for (one, other), always in together.items():
        said = [text.format("message 3") for text in (one, other)]
        require(not always, f"{said[0]!r} and {said[1]!r} always stay together; they are not equal")
    for side in (2, 0):
        one, other = ({row for row, place in sides.items() if place == side} for sides in found[:2])
        same = f"two seeds gave the same {SIDES[side]} part: the seed is not used"
        require(one != other, same)
    _require_repeatable(answer, df, found[0])
    return "no text on two sides, whatever its case and spaces, and every row in one part"


def _require_repeatable(answer, df, sides):
    """Refuse a split with fractions 0.7 and 0.1 and seed 1 that the next Python process would not repeat."""

    def again(table):
        return _sides(answer, table, (0.7, 0.1), 1)

    require(again(df) == sides, "one seed gave two different splits: nobody could repeat it")
    with _other_hash(answer):
        require(
            again(df) == sides,
            "`hash` of a text is another number in each Python process, and so is your split",
        )
    # other words, as long and in the same order: only the order of a set, or a text itself, can tell them apart
    if again(_messages("missive")) == sides:
        return
    # a split by what is in a text does not mind if half of the texts are missing
    half = df[df.text.map(_key).map(len) % 2 == 0]
    agree = [sides[sender] == side for sender, side in again(half).items()]
    require(
        sum(agree) > 0.85 * len(agree),
        "your split follows the order of a set, which is another one in each Python process: sort it first",
    )


class _Reader(nn.Module):
    """A classifier that reads one of PLACES; it refuses what does not fit its context."""

    def __init__(self, place, seed, pad):
        super().__init__()
        self.model, self.place, self.pad = _classifier(seed).eval(), place, pad
        self.asked = []

    def forward(self, ids):
        self.asked.append(ids.clone())
        return _read_at(self.model, ids, self.pad)[self.place]

    def tried(self, ids, last):
        """The tokens that were written over all last real tokens of `ids` alike."""
        rows, found = torch.arange(len(ids)), set()
        for other in self.asked:
            if other.shape == ids.shape and (tokens := other[rows, last]).unique().numel() == 1:
                found.add(tokens[0].item())
        return found - {self.pad, *ids[rows, last].unique().tolist()}


@exercise
def place_that_is_read(answer):
    """`answer(classify, ids, pad_token_id)` -> "first token", "last position" or "last real token"."""
    generator = torch.Generator().manual_seed(3)
    # the ID of padding, which need not be the last, and how all messages end
    cases = [(256, None), (256, 0), (256, 1), (256, 255), (100, None), (100, 256), (100, 99)]
    asked = 0
    for seed, (pad, end) in enumerate(cases):
        lengths = torch.randint(2, 11, (5,), generator=generator).tolist()
        width = max(lengths) if seed % 2 else 12  # sometimes a message fills the width
        ids = _padded(lengths, width, pad, generator)
        rows, last = torch.arange(5), torch.tensor(lengths) - 1
        if end is not None:
            ids[rows, last] = end
        for place in PLACES:
            said = f"a classifier that reads the {place} was taken for one of the {{}}"
            reader = _Reader(place, seed, pad)
            _require_found(answer, reader, ids, pad, said)
            # all last real tokens are what the answer has written there: does it see that nothing changed?
            for token in reader.tried(ids, last):
                ids_too = ids.index_put((rows, last), torch.tensor(token))
                _require_found(answer, _Reader(place, seed, pad), ids_too, pad, said)
            asked += 1
    return f"{asked} classifiers, each found out by what moves its logits"


def _require_found(answer, reader, ids, pad, said):
    got = answer(reader, ids.clone(), pad)
    places = f"one of {', '.join(PLACES)} is asked for, not {got!r}"
    require(isinstance(got, str) and got in PLACES, places)
    exact = got == "last position" and " (were logits compared exactly? Rounding moves, too)"
    require(got == reader.place, said.format(got) + (exact or ""))


def _two_methods(seed, n=120, spam=30):
    """Labels, and the scores of two methods that find the same messages easy: `(N,)` each; the first is better."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(n).long()
    labels[torch.randperm(n, generator=generator)[:spam]] = 1
    shared, own, other = torch.randn(3, n, generator=generator)
    return labels, 2.0 * labels + shared + 0.4 * own, 1.6 * labels + shared + 0.5 * other


def _gains(labels, one, other, draws, generator):
    """The gain in average precision in each draw, and the same with draws of their own for each method: `(D,)` twice."""
    from shared.classification import average_precision

    def drawn():
        rows = torch.randint(len(labels), (draws, len(labels)), generator=generator)
        return torch.zeros(draws, len(labels)).scatter_add_(1, rows, torch.ones(rows.shape))

    counts, more = drawn(), drawn()
    first = average_precision(labels, one, counts)
    return tuple(first - average_precision(labels, other, c) for c in (counts, more))


@exercise
def gain_interval(answer):
    """`answer(labels, one, other, draws, seed)` -> (low, high): 95 % of the gains in average precision, paired."""
    ends = torch.tensor([0.025, 0.975])
    asked = "two numbers are asked for, the lower and the upper end"
    for seed in range(3):
        labels, one, other = _two_methods(seed)
        paired, apart = _gains(labels, one, other, 4000, torch.Generator().manual_seed(seed))
        low, high = numbers(answer(labels, one, other, 2000, seed), 2, asked)
        same = numbers(answer(labels, one, other, 2000, seed), 2, asked)
        require([low, high] == same, "two calls with the same seed differ: draw with that seed")
        require(low <= high, f"the lower end, {low:.3f}, is above the upper, {high:.3f}")
        want, wide = paired.quantile(ends), apart.quantile(ends)
        width, case = high - low, f"{len(labels)} messages: from {low:.3f} to {high:.3f}"
        require(width > 0, f"{case}: no draw differs from the others; draw with replacement")
        near = (torch.tensor([low, high]) - want).abs().max() < 0.08 * (want[1] - want[0])
        if near and abs(width / (want[1] - want[0]) - 1) < 0.08:
            continue
        turned = abs(low + want[1]) + abs(high + want[0]) < 0.1 * (want[1] - want[0])
        require(not turned, f"{case}: that is the gain of the other method over this one")
        loose = width > 1.2 * (want[1] - want[0])
        if loose and abs(width / (wide[1] - wide[0]) - 1) < 0.25:
            raise Verdict(f"{case}: too wide; score both methods on the same draws")
        raise Verdict(
            f"{case}; the middle 95 % of the gains go from {want[0]:.3f} to {want[1]:.3f}"
        )
    return "paired: what makes a draw easy for both methods cancels out"
