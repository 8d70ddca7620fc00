"""Checks of chapter 6: one for each exercise."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shared.checks import exercise, require

TINY = {"context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
TINY |= {"drop_rate": 0.0, "qkv_bias": False}
PLACES = ("first token", "last position", "last real token")


def _bytes():
    """A tokenizer whose tokens are bytes, and <|endoftext|>."""
    from shared.text_data import make_encoding

    return make_encoding("bytes", {bytes([b]): b for b in range(256)}, ("<|endoftext|>",))


def _classifier(seed=0, drop_rate=0.0):
    """A small untrained GPT with two classes; its weights are large, so that every token matters."""
    from shared.classification import classifier_from
    from shared.gpt_model import GPTModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cfg = TINY | {"vocab_size": _bytes().n_vocab, "drop_rate": drop_rate}
        return classifier_from(GPTModel(cfg), cfg)


def _padded(lengths, width, pad, generator):
    """Random messages of these lengths, padded to a width: `(N, width)`."""
    ids = torch.randint(256, (len(lengths), width), generator=generator)
    return torch.where(torch.arange(width) < torch.tensor(lengths)[:, None], ids, pad)


def _read_at(model, ids, pad):
    """The logits of each message at each of PLACES, and one token too far: `{place: (N, 2)}`."""
    with torch.no_grad():
        logits = model(ids)
    last = (ids != pad).sum(dim=1) - 1
    rows, after = torch.arange(len(ids)), (last + 1).clamp(max=ids.shape[1] - 1)
    found = dict(zip(PLACES, (logits[:, 0], logits[:, -1], logits[rows, last])))
    return found | {"first padding token": logits[rows, after]}


@exercise
def logits_at_full_context(answer):
    """`answer(texts, model, tokenizer, pad_token_id)` -> logits `(N, 2)`, padded to the whole context."""
    tokenizer = _bytes()
    pad, T = tokenizer.eot_token, TINY["context_length"]
    model, widths = _classifier().eval(), set()
    model.register_forward_pre_hook(lambda module, args: widths.add(args[0].shape[1]))
    short = ["see you at 8", "WIN", "<|endoftext|> you won", "y"]  # here cut columns would show
    for texts in (short, ["see you at 8", "a message that is longer than this context", "x" * T]):
        cut = [tokenizer.encode_ordinary(text)[:T] for text in texts]
        ids = torch.tensor([one + [pad] * (T - len(one)) for one in cut])
        read = _read_at(model, ids, pad)
        want = read.pop("last real token")
        widths.clear()
        got = answer(list(texts), model, tokenizer, pad)
        require(isinstance(got, torch.Tensor), f"a tensor is asked for, not {type(got).__name__}")
        shape = f"{len(texts)} messages, two classes"
        require(got.shape == want.shape, f"the shape is {tuple(got.shape)}; {shape}")
        if not torch.allclose(got.float(), want, atol=1e-4):
            for place, logits in read.items():
                same = torch.allclose(got.float(), logits, atol=1e-4)
                require(not same, f"you read the {place}; the message ends at its last real token")
            wrong = (got - want).abs().amax(dim=1).argmax().item()
            raise AssertionError(
                f"the logits of {texts[wrong]!r} are not those of its last real token"
            )
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
        for name, asked in (("lr", 1e-3), ("weight_decay", 0.1)):
            most = max(float(group[name]) for group in optimizer.param_groups)
            require(abs(most - asked) < 1e-9, f"{name} is {most:g}; {asked:g} was asked for")
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
                raise AssertionError(f"{part}: {name} moved; {why if shrunk else 'it is frozen'}")
    return "each part moves alone, and what is frozen does not even shrink"


@exercise
def best_with_first_token(answer):
    """`answer(first_tokens, labels)` -> the accuracy of the best rule that sees first tokens only."""
    generator = torch.Generator().manual_seed(0)
    for n, kinds, p in ((40, 5, 0.3), (200, 30, 0.15), (9, 20, 0.5), (50, 1, 0.9)):
        first = torch.randint(kinds, (n,), generator=generator)
        labels = (torch.rand(n, generator=generator) < p).long()
        groups = [labels[first == token] for token in first.unique()]
        want = sum(max(int(g.sum()), len(g) - int(g.sum())) for g in groups) / n
        got = float(answer(first, labels))
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
        raise AssertionError(f"{case}: the best rule is right in {want:.3f}, you say {got:.3f}")
    return "of each first token the more frequent class, added up over all messages"


@exercise
def repaired_accuracy(answer):
    """`answer(model, loader, pad_token_id)` -> the share of a loader's messages that is right."""
    pad = _bytes().eot_token
    generator = torch.Generator().manual_seed(1)
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
            got, again = (float(answer(model, loader, pad)) for _ in range(2))
        mode = "training" if training else "evaluation"
        require(model.training == training, f"the model came in {mode} mode and left in the other")
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
        raise AssertionError(f"{case}: {want:.4f} of the messages are right, you say {got:.4f}")
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


@exercise
def spam_filter(answer):
    """`answer(parts)` -> (predict, threshold): trained on train, chosen on validation, test untouched."""
    from shared.classification import scores

    def run(parts):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            found = answer({name: (x.clone(), y.clone()) for name, (x, y) in parts.items()})
            pair = isinstance(found, tuple | list) and len(found) == 2
            require(pair and callable(found[0]), "a function and a threshold are asked for")
            with torch.no_grad():
                said = [
                    torch.as_tensor(found[0](parts[n][0])).double() for n in ("validation", "test")
                ]
        for p, name in zip(said, ("validation", "test")):
            shape = parts[name][1].shape
            require(
                p.shape == shape, f"predict returns {tuple(p.shape)}; one probability a message"
            )
            require(((p >= 0) & (p <= 1)).all(), "predict does not return probabilities")
        return *said, float(found[1])

    parts = _parts(0)
    (_, said, threshold), (_, again, too) = run(parts), run(parts)
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
        require(above > 0.8, f"predict hardly separates the classes ({above:.2f}; 0.5 is chance)")
        y = parts["validation"][1]
        best = max(scores(y, (p >= t).long())["F1"] for t in p.tolist())
        reached = scores(y, (p >= threshold).long())["F1"]
        require(
            reached > best - 1e-6,
            f"F1 on the validation messages is {reached:.3f} at your threshold {threshold:.3f}; {best:.3f} can be had",
        )
    return "trained on the one part, the threshold from the second, and the third never seen"


@exercise
def split_texts(answer):
    """`answer(df, train_frac, validation_frac, seed)` -> three tables; equal texts on one side."""
    import pandas as pd

    texts = [f"Message number {i}" for i in range(240)]
    rows = [(text, i % 7 == 0) for i, text in enumerate(texts)]
    exact = rows[:30] + rows[:30] + rows[60:80]
    loose = [
        (f" {text.upper()}" if i % 2 else text.replace(" ", "  "), y)
        for i, (text, y) in enumerate(rows[100:130])
    ]
    df = pd.DataFrame(rows + exact + loose, columns=["text", "label"])
    df["label"] = df["label"].astype(int)
    kept = df.copy()
    found = []
    for seed in (1, 1, 2):
        parts = answer(df.copy(), 0.7, 0.1, seed)
        require(len(parts) == 3, f"three tables are asked for, not {len(parts)}")
        found.append([part.text.tolist() for part in parts])
        same = [sorted(zip(part.text, part.label)) for part in (pd.concat(parts), kept)]
        back = f"{len(same[0])} rows came back of {len(df)}: each must come once"
        require(len(same[0]) == len(df), back)
        require(same[0] == same[1], "a row came back with another text or label, or twice")
        names = ("training", "validation", "test")
        for norm, kind in (
            (str, "exactly equal"),
            (lambda t: " ".join(t.lower().split()), "equal but for case and spaces"),
        ):
            sets = [set(map(norm, part.text)) for part in parts]
            for i, j in ((0, 1), (0, 2), (1, 2)):
                both = sets[i] & sets[j]
                place = f"in {names[i]} and in {names[j]}"
                require(not both, f"{len(both)} texts, {kind}, stand {place}")
        for part, share, name in zip(parts, (0.7, 0.1, 0.2), names):
            distinct = part.text.str.lower().str.split().str.join(" ").nunique() / 240
            about = f"the {name} part has {distinct:.0%} of the texts, not about {share:.0%}"
            require(abs(distinct - share) < 0.06, about)
    require(found[0] == found[1], "one seed gave two different splits: nobody could repeat it")
    sets = [set(part) for part in (found[0][2], found[2][2])]
    require(sets[0] != sets[1], "two seeds gave the same test: the seed is not used")
    return "no text on two sides, whatever its case and spaces, and every row in one part"


class _Reader(nn.Module):
    """A classifier that reads one of PLACES; it refuses what does not fit its context."""

    def __init__(self, place, seed, pad):
        super().__init__()
        self.model, self.place, self.pad = _classifier(seed).eval(), place, pad

    def forward(self, ids):
        return _read_at(self.model, ids, self.pad)[self.place]


@exercise
def place_that_is_read(answer):
    """`answer(classify, ids, pad_token_id)` -> "first token", "last position" or "last real token"."""
    pad = _bytes().eot_token
    generator = torch.Generator().manual_seed(3)
    for seed in range(6):
        lengths = torch.randint(2, 11, (5,), generator=generator).tolist()
        width = max(lengths) if seed % 2 else 12  # sometimes a message fills the width
        ids = _padded(lengths, width, pad, generator)
        for place in PLACES:
            got = answer(_Reader(place, seed, pad), ids.clone(), pad)
            require(got in PLACES, f"one of {', '.join(PLACES)} is asked for, not {got!r}")
            said = f"a classifier that reads the {place} was taken for one of the {got}"
            exact = (
                got == "last position" and " (were logits compared exactly? Rounding moves, too)"
            )
            require(got == place, said + (exact or ""))
    return "eighteen classifiers, each found out by what moves its logits"
