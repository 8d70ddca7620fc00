"""Checks of chapter 7: one for each exercise."""

import copy
import random
from numbers import Integral

import torch
import torch.nn.functional as F

from shared.checks import Verdict, brief, exercise, require
from shared.checks.means import called
from shared.checks.returned import numbers, yes_or_no

SMALL = {"vocab_size": 40, "context_length": 32, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
SMALL |= {"drop_rate": 0.0, "qkv_bias": False}
END = 39


def _gpt(seed=0, scale=6.0, **changes):
    """A small GPTModel whose likeliest tokens vary with what it reads, and with where it reads it."""
    from shared.gpt_model import GPTModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTModel(SMALL | changes).eval()
    with torch.no_grad():
        for block in model.trf_blocks:
            block.att.W_query.weight.mul_(scale)
            block.att.W_value.weight.mul_(scale)
        model.pos_emb.weight.mul_(2)
    return model


def _require_refused(answer, given, why):
    """Refuse an answer that does not raise ValueError, and no other error, for bad input."""
    raised = "nothing"
    try:
        answer(given)
    except ValueError:
        return
    except (NotImplementedError, Verdict):
        raise
    except Exception as error:
        raised = type(error).__name__
    raise Verdict(f"{given!r} {why}: a ValueError is due, and {raised} was raised")


@exercise
def phi_prompt(answer):
    """`answer(entry)` -> the prompt in the style of Phi-3."""
    with_input = {"instruction": "Plural, please.", "input": "fox", "output": "foxes"}
    plain = {"instruction": "Name a color.", "input": "", "output": "red"}
    bare = {"instruction": "Name a town."}
    wanted = [
        (with_input, "<|user|>\nPlural, please.\nfox\n<|assistant|>\n"),
        (plain, "<|user|>\nName a color.\n<|assistant|>\n"),
        (bare, "<|user|>\nName a town.\n<|assistant|>\n"),
    ]
    for entry, want in wanted:
        try:
            got = answer(dict(entry))
        except KeyError as error:
            require("input" not in error.args, "an entry without the key 'input' has no input")
            raise
        require(isinstance(got, str), f"a string is asked for, not {type(got).__name__}")
        output = entry.get("output", "")
        require(
            not output or output not in got, "the answer stands in the prompt: it is given away"
        )
        require(
            got.rstrip("\n") != want.rstrip("\n") or got == want,
            "after <|assistant|> exactly one new line, which belongs to the prompt",
        )
        require(
            entry.get("input") or "\n\n" not in got, f"without an input no line is left: {got!r}"
        )
        require(got == want, f"{got!r} for {entry}; it should be {want!r}")
    for empty in ({"instruction": ""}, {"instruction": "  \n"}, {}):
        _require_refused(answer, empty | {"input": "fox"}, "has no instruction")
    return "with and without an input, and an empty instruction is refused"


def _batches():
    """Batches of `(ids, prompt length)`: of one text, of equal lengths, of many; END also inside a prompt."""
    generator = random.Random(0)
    yield [([1, 2, 3, 4, 5], 3), ([6, 7], 1), ([8, 9, 10], 2)]
    yield [([1, 2, 3], 2)]
    yield [([4, 5, 6, 7], 2), ([8, 9, 10, 11], 3)]
    yield [([1, END, 2, 3, 4], 3), ([5, 6, 7], 3)]  # and an empty answer: its end is asked for
    yield [([1, 2, END, 3, 4], 2), ([5, 6], 1)]  # END within an answer is a token of it
    for _ in range(4):
        texts = [
            [generator.randrange(38) for _ in range(generator.randint(2, 12))] for _ in range(5)
        ]
        yield [(ids, generator.randint(1, len(ids) - 1)) for ids in texts]


@exercise
def collate_answers(answer):
    """`answer(batch, end)` -> inputs and targets, `(B, T)`, of pairs (ids, prompt length)."""
    from shared.instruction import custom_collate_fn

    model = _gpt()
    for batch in _batches():
        with called(custom_collate_fn) as lesson:
            got = answer([(list(ids), p) for ids, p in batch], END)
        require(len(got) == 2, "inputs and targets are asked for: two tensors")
        T = max(len(ids) for ids, _ in batch)
        inputs, targets = (_tensor(*pair) for pair in zip(("inputs", "targets"), got))
        for name, part in (("inputs", inputs), ("targets", targets)):
            shape = tuple(part.shape)
            require(
                shape == (len(batch), T), f"{name} are {shape}; they should be {(len(batch), T)}"
            )
        for row, (ids, p) in enumerate(batch):
            n, case = len(ids), f"text {row} of {len(batch)}, {len(ids)} tokens, {p} of them prompt"
            require(
                inputs[row, :n].tolist() == ids, f"{case}: the inputs do not begin with the text"
            )
            require(
                inputs[row, n:].eq(END).all(),
                f"{case}: inputs are not filled up with the end token",
            )
            _require_targets(targets[row].tolist(), ids, p, case)
        logits = model(inputs)
        together = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        alone = 0
        for ids, p in batch:
            logits = model(torch.tensor([ids]))[0, p - 1 :]
            alone += F.cross_entropy(logits, torch.tensor([*ids[p:], END]), reduction="sum")
        require(abs(together - alone) < 1e-3, "the loss is not that of the texts one by one")
        own = "write it without the lesson's custom_collate_fn"
        require(not lesson, f"inputs and targets are right, but not yours: {own}")
    return (
        "the answers and one end token each, to the token; the loss is that of the texts one by one"
    )


def _tensor(name, part):
    """What an answer returned, as a tensor of token IDs."""
    try:
        part = torch.as_tensor(part)
    except (TypeError, ValueError):
        raise Verdict(f"{name} are no tensor (B, T): are the rows equally long?") from None
    require(not part.is_floating_point(), f"{name} are {part.dtype}; token IDs are whole numbers")
    return part


def _require_targets(got, ids, p, case):
    n, T = len(ids), len(got)
    want = [-100] * (p - 1) + [*ids[p:], END] + [-100] * (T - n)
    if got == want:
        return
    shifted = [*ids[1:], END]
    for places, said in (
        (0, "the inputs themselves: not shifted"),
        (2, "shifted twice"),
        (-1, "shifted back"),
    ):
        require(not _shifted(got, ids, places), f"{case}: the targets are {said}")
    require(
        all(t == -100 for t in got[n:]),
        f"{case}: {T - n} places of padding, and {sum(t != -100 for t in got[n:])} count in the loss",
    )
    ended = got[n - 1]
    require(
        ended in (-100, END), f"{case}: the last target is {ended}, not {END}, the `end` you got"
    )
    lost = [t for t in range(p - 1, n - 1) if got[t] == -100 and ids[t + 1] == END]
    require(not lost, f"{case}: an end token within the answer is hidden: it is one of its tokens")
    require(
        got[n - 1] == END, f"{case}: no end token is asked for, so the model never learns to stop"
    )
    if all(t in (-100, s) for t, s in zip(got, shifted)):
        asked = n - got[:n].count(-100)
        require(asked != n or p == 1, f"{case}: the prompt is scored together with the answer")
        require(asked != n - p + 2, f"{case}: one token of the prompt is asked for")
        require(asked != n - p, f"{case}: the answer's first token is hidden")
        raise Verdict(f"{case}: {asked} targets, but {n - p + 1} are due")
    raise Verdict(f"{case}: the targets are {got}; they should be {want}")


def _shifted(got, ids, places):
    """Whether all targets of a text stand so many places ahead of their inputs, and not one place."""
    asked = [(t, target) for t, target in enumerate(got) if target != -100]
    text = dict(enumerate([*ids, END]))
    one, other = (all(text.get(t + k) == x for t, x in asked) for k in (1, places))
    return other and not one


def _chat(*texts, system=False, roles=("user", "assistant")):
    talk = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"messages": [{"role": "system", "content": "Be kind."}] * system + talk}


def _talk(*messages):
    """A conversation of messages such as "user: Plural of fox?"."""
    split = [text.partition(": ") for text in messages]
    return {"messages": [{"role": role, "content": content} for role, _, content in split]}


ROUND = "user: Plural of fox?", "assistant: foxes"


@exercise
def entries_from_chats(answer):
    """`answer(chats)` -> entries of the first round of each conversation."""
    one = {"instruction": "Plural of fox?", "input": "", "output": "foxes"}
    cases = [
        ("one round", [_chat("Plural of fox?", "foxes")], [one]),
        ("a system's message first", [_chat("Plural of fox?", "foxes", system=True)], [one]),
        ("two rounds", [_chat("Plural of fox?", "foxes", "And ox?", "oxen")], [one]),
        ("an empty answer in the first of two rounds", [_chat("A?", " ", "B?", "b")], []),
        ("an empty round before a full one", [_chat(" ", " ", "B?", "b")], []),
        ("spaces at the ends", [_chat(" Plural of fox?\n", " foxes ")], [one]),
        ("no answer", [_chat("Plural of fox?")], []),
        ("an empty answer", [_chat("Plural of fox?", "  ")], []),
        ("an empty question", [_chat(" ", "foxes")], []),
        ("no message", [{"messages": []}], []),
        ("no conversation", [], []),
        ("the assistant begins", [_chat("Hello!", "Hi", roles=("assistant", "user"))], []),
        ("a greeting first", [_talk("assistant: Hello!", *ROUND)], []),
        (
            "a system's message before the answer",
            [_talk(ROUND[0], "system: Be kind.", ROUND[1])],
            [one],
        ),
        ("nothing but a system's message", [_talk("system: Be kind.")], []),
        ("the user asks twice", [_chat("Fox?", "Plural?", roles=("user", "user"))], []),
        ("a faulty one between", [_chat("A?", "a"), _chat("B?"), _chat("C?", "c")], None),
    ]
    for name, chats, want in cases:
        got = answer(copy.deepcopy(chats))
        require(isinstance(got, list), f"{name}: a list is asked for, not {type(got).__name__}")
        if want is None:
            want = [{"instruction": f"{x}?", "input": "", "output": x.lower()} for x in ("A", "C")]
        for entry in got:
            require(isinstance(entry, dict), f"{name}: an entry is a dictionary, not {entry!r}")
            missing = {"instruction", "input", "output"} - set(entry)
            require(not missing, f"{name}: an entry lacks {sorted(missing)}")
        bare = [{k: entry[k] for k in ("instruction", "input", "output")} for entry in got]
        require(bare == want, f"{name}: {bare}; it should be {want}")
    chat = _chat("Plural of fox?", "foxes")
    for nonsense in ({"messages": []}, "text", None, chat, (chat,), iter([chat]), {0: chat}):
        _require_refused(answer, nonsense, "is no list")
    return "the first round of each, with a question and an answer; what is no list is refused"


LORA = {"a head of its own": False, "a tied head": True}  # whose model, and whether it is tied


@exercise(changes=(0,))
def lora_parameters(answer):
    """`answer(model)` -> the parameters that learn, after LoRA of rank 8 was put into the frozen model's attention."""
    from shared.lora import adapter_off

    for about, tied in LORA.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _gpt(scale=1.0, tie_weights=tied)
            ids = torch.arange(18).view(2, 9)
            kept, before = copy.deepcopy(model.state_dict()), model(ids).detach()
            total = sum(p.numel() for p in model.parameters())
            given = _given_parameters(answer(model), about)
            _require_lora(model, given, about)
            same = model(ids).equal(before)
            require(same, f"{about}: before training the model already computes something else")
            first, last = _train_on_answers(model, given)
        for name, value in model.state_dict().items():
            plain = name.replace(".linear.", ".")
            still = plain not in kept or kept[plain].equal(value)
            require(still, f"{about}: {plain} changed in training; it is frozen")
        with adapter_off(model):
            gone = model(ids).equal(before)
        require(gone, f"{about}: with the adapter off the model is not what it was")
        require(last < 0.8 * first, f"{about}: the loss fell only from {first:.2f} to {last:.2f}")
    share = sum(p.numel() for p in given) / total
    return f"the loss of a small GPT's answers fell from {first:.2f} to {last:.2f} and {share:.0%} as many numbers learned as it has; with the adapter off it is what it was"


def _given_parameters(got, about):
    """What an answer returned, as a list of parameters; refused where an optimizer would not take it."""
    early = isinstance(got, torch.optim.Optimizer)
    require(not early, f"{about}: the parameters are asked for, and not yet an optimizer")
    try:
        groups = torch.optim.AdamW(got).param_groups
    except (TypeError, ValueError) as error:
        require(
            "empty" not in str(error), f"{about}: you return no parameters; are A and B frozen?"
        )
        raise Verdict(f"{about}: an optimizer cannot take what you return: {error}") from None
    given = [p for group in groups for p in group["params"]]
    twice = f"{about}: a parameter is among them twice"
    require(len({id(p) for p in given}) == len(given), twice)
    return given


def _require_lora(model, given, about):
    """Refuse a model whose attention has no LoRA of rank 8, and anything else that learns."""
    from shared.checks.adapted import require_lora

    require_lora(model, about, 8, 16)
    names = {id(p): name for name, p in model.named_parameters()}
    for one, name in names.items():
        own, learns = ".lora." in name, model.get_parameter(name).requires_grad
        require(own or not learns, f"{about}: {name} can learn; the base should be frozen")
        require(learns or not own, f"{about}: {name} is frozen, and should learn")
        has = any(one == id(p) for p in given)
        require(has or not own, f"{about}: {name} is not among the parameters that you return")
        require(own or not has, f"{about}: {name} is among the parameters; it does not learn")
    foreign = any(id(p) not in names for p in given)
    require(not foreign, f"{about}: among the parameters is one that is not the model's")


def _train_on_answers(model, parameters):
    """Train as chapter 7 does, on the answers alone: the first loss and the last."""
    from shared.instruction import custom_collate_fn
    from shared.pretraining import calc_loss_batch

    batch = [(list(range(n, n + 9)), 5) for n in (0, 9, 18, 27)]
    inputs, targets = custom_collate_fn(batch, pad_token_id=END)
    optimizer, losses = torch.optim.AdamW(parameters, lr=0.01), []
    for _ in range(40):
        loss = calc_loss_batch(inputs, targets, model, "cpu")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@exercise(guess=lambda answer: [int(n) for n in answer([5, 2, 3], [3, 1, 2])])
def target_counts(answer):
    """`answer(lengths, prompts)` -> four numbers of targets.

    The four of the card are never said: they are to be predicted.
    """
    names = "padding counts", "every end token is hidden", "one end token each", "only the answers"
    cases = [([4], [2]), ([7, 7], [1, 6]), ([3, 9, 4, 4], [2, 5, 3, 1]), ([5, 2, 3], [3, 1, 2])]
    for lengths, prompts in cases:
        got = numbers(answer(list(lengths), list(prompts)), 4, "four numbers are asked for")
        n, total = len(lengths), sum(lengths)
        want = n * max(lengths), total - n, total, total - sum(prompts) + n
        for name, one, due in zip(names, got, want):
            hint = ""
            if name == "only the answers" and one == due - n:
                hint = ": an answer's end token is asked for, too"
            if name == "padding counts" and one == due + n:
                hint = ": the target is the next token, so the last column has none of its own"
            case = f"lengths {lengths}, prompts {prompts}"
            told = f"{due} targets, not {one!r}" if lengths != [5, 2, 3] else f"not {one!r}"
            require(one == due, f"{case}, {name}: {told}{hint}")
    return "15, 7, 10 and 7 for the batch of the exercise"


def _entry(instruction, given="", output="x"):
    return {"instruction": instruction, "input": given, "output": output}


@exercise
def trained_on(answer):
    """`answer(train, test)` -> the test entries whose task occurs in train."""
    train = [
        _entry("How much is 5 plus 7?", output="12"),
        _entry("Plural, please.", "fox", "foxes"),
        _entry("Write the plural of goose.", output="geese"),
        _entry("Sort the words.", "pear, apple", "apple, pear"),
        _entry("Name a color.", output="red"),
        _entry("What is Öl in English?", output="oil"),
        _entry("Write 2.50 in words"),
    ]
    cases = [
        ("word for word the same", _entry("Plural, please.", "fox", "foxes"), True),
        ("in other capitals", _entry("PLURAL, please.", "Fox", "foxes"), True),
        ("without its full stop", _entry("Plural please", "fox", "foxes"), True),
        ("with more spaces", _entry("Plural,  please. ", " fox", "foxes"), True),
        ("the input within the instruction", _entry("Plural, please: fox", "", "foxes"), True),
        ("with punctuation and no space", _entry("Plural,please:fox", "", "foxes"), True),
        ("with another letter", _entry("What is Äl in English?"), False),
        ("with an accent more", _entry("Náme a color."), False),
        ("with other numbers", _entry("Write 3.50 in words"), False),
        ("with two words made one", _entry("Plural, pleasefox"), False),
        ("with a word twice", _entry("Name a a color."), False),
        ("with another answer", _entry("Name a color.", output="blue"), True),
        ("with a word more", _entry("Name a dark color.", output="red"), False),
        ("of another input", _entry("Plural, please.", "box", "boxes"), False),
        ("with the same answer", _entry("How much is 6 plus 6?", output="12"), False),
        ("in another order", _entry("Sort the words.", "apple, pear", "apple, pear"), False),
        ("part of a training task", _entry("Write the plural of goos"), False),
        ("words run together", _entry("Nameacolour.", output="red"), False),
        ("nothing of it known", _entry("Rhyme, please.", "bed", "red"), False),
        ("without the key `input`", {"instruction": "Name a color", "output": "red"}, True),
    ]

    def ask(train, test):
        try:
            return answer(copy.deepcopy(train), copy.deepcopy(test))
        except KeyError as error:
            require("input" not in error.args, "an entry without the key 'input' has no input")
            raise

    for name, entry, known in cases:
        got = ask(train, [entry])
        require(isinstance(got, list), f"a list is asked for, not {type(got).__name__}")
        require(all(isinstance(one, dict) for one in got), f"entries are asked for, not {got}")
        missed = f"a task {name} was trained on, and is not found: {entry}"
        require(bool(got) or not known, missed)
        require(known or not got, f"a task {name} was not trained on: {entry}")
    bare = {"instruction": "Say hello!", "output": "Hello."}
    tests = [entry for _, entry, _ in cases] + [bare]
    want = [entry for _, entry, known in cases if known] + [bare]
    got = ask([bare, *train], tests)
    require(len(got) == len(want), f"{len(got)} entries found among {len(tests)}, not {len(want)}")
    mended = "they come in another order, are those of train, or were changed"
    require(got == want, f"these are not the entries of test as they were given: {mended}")
    return f"all {len(want)} found among {len(tests)}, and nobody accused"


def _prompts(seed, count=6):
    generator = random.Random(seed)
    return [
        [generator.randrange(38) for _ in range(generator.randint(1, 14))] for _ in range(count)
    ]


def _alone(model, ids, n, end):
    """The likeliest answer to one prompt, by the plainest loop."""
    ids, start = list(ids), len(ids)
    for _ in range(n):
        with torch.no_grad():
            new = model(torch.tensor([ids]))[0, -1].argmax().item()
        if new == end:
            break
        ids.append(new)
    return ids[start:]


@exercise
def repaired_batch(answer):
    """`answer(model, prompts, max_new_tokens, end)` -> the likeliest answers, lists of IDs."""
    stopped = 0
    for seed in range(8):
        model, prompts = _gpt(seed), _prompts(seed)
        # an end token that does come: one of the answers' own
        own = [_alone(model, ids, 8, -1) for ids in prompts]
        end = own[seed % 6][3]
        want = [_alone(model, ids, 8, end) for ids in prompts]
        stopped += len({len(ids) for ids in want}) > 1
        got = answer(model, copy.deepcopy(prompts), 8, end)
        require(isinstance(got, list | tuple), f"a list of answers is asked for, not {brief(got)}")
        require(len(got) == 6, f"{len(got)} answers to 6 prompts")
        for ids in got:
            plain = isinstance(ids, list) and all(isinstance(token, Integral) for token in ids)
            require(plain, f"an answer is a list of IDs, whole numbers, not {brief(ids)}")
        for i, (one, due) in enumerate(zip(got, want)):
            case = f"prompt {i} of lengths {[len(ids) for ids in prompts]}"
            if one == due:
                continue
            echo = one[: len(prompts[i])] == prompts[i] and len(prompts[i]) > 1
            require(not echo, f"{case}: the prompt is in it")
            require(end not in one, f"{case}: the answer holds its end token; it ends before it")
            short, longer = due[: len(one)] == one, one[: len(due)] == due
            require(not short, f"{case}: cut after {len(one)} tokens, but {len(due)} are due")
            require(not longer, f"{case}: {len(due)} tokens are due, and it goes on to {len(one)}")
            longest = len(prompts[i]) == max(map(len, prompts))
            where = "even without padding" if longest else "with padding beside it"
            raise Verdict(f"{case}: {where} the answer is {one}; alone it is {due}")
    require(stopped > 3, "the check has lost its point")
    return "each answer as its prompt alone would have it, and each ends by itself"


def _honest(prompts):
    return [f"{prompt[::-1]} {sum(map(ord, prompt)) % 97}" for prompt in prompts]


def _pads(prompts):
    longest = max(map(len, prompts), default=0)
    return _honest([prompt.rjust(longest, "_") for prompt in prompts])


def _cuts(prompts):
    answers = _honest(prompts)
    return [text[: min(map(len, answers))] for text in answers]


def _mixes(prompts):
    return _honest(sorted(prompts, key=len))


def _far(prompts):
    longest = max(map(len, prompts), default=0)
    return _honest([p if len(p) * 3 > longest else p + "_" for p in prompts])


def _incomplete(prompts):
    answers = _honest(prompts)
    if len(prompts) > 1 and len(prompts) % 8:
        answers[-1] += "."
    return answers


def _upper(prompts):
    return [text.upper() for text in _honest(prompts)]


def _empty(prompts):
    return ["" for _ in prompts]


@exercise
def neighbors_matter(answer):
    """`answer(function, prompts)` -> whether what function says to one prompt depends on the others."""
    some, more = (7, 1, 12, 3, 3, 20, 5, 9, 2, 15, 6), (4, 11, 8, 2, 13)
    # eleven prompts, and sixteen, of which all together fill their batches
    eleven, sixteen = (["a" * n + chr(98 + n) for n in lengths] for lengths in (some, some + more))
    liars = {
        "that reads its padding": _pads,
        "that cuts answers to the shortest": _cuts,
        "that mixes up the order": _mixes,
        "that is wrong for prompts far shorter than the longest": _far,
        "that is wrong for the last of an incomplete batch": _incomplete,
    }
    for name, function in liars.items():
        for tried in (eleven, sorted(eleven, key=len), sixteen):
            found = yes_or_no(answer(function, list(tried)))
            require(found, f"a function {name} was not found out among {len(tried)} prompts")
    for function in (_honest, _upper, _empty):
        for tried in (eleven, sixteen):
            accused = yes_or_no(answer(function, list(tried)))
            require(not accused, "an honest function was accused")
    return f"{len(liars)} liars found, and nobody accused"
