"""Every check of chapter 7's exercises: accepts right answers, refuses the usual wrong ones."""

import copy
import functools
import random
import re

import numpy as np
import pytest
import torch
from torch import nn

from shared.checks import ch07 as check
from shared.instruction import custom_collate_fn, format_input, left_padded
from shared.lora import (
    ATTENTION,
    FEED_FORWARD,
    LinearWithLoRA,
    lora_layers,
    replace_linear_with_lora,
)
from shared.pretraining import generate

# 7.1: another style of prompt


def phi(user="<|user|>\n", gap="\n", end="\n<|assistant|>\n", check_empty=True, given=True):
    def answer(entry):
        if check_empty:
            format_input(entry)
        tail = f"{gap}{entry['input']}" if given and entry.get("input") else ""
        return f"{user}{entry['instruction']}{tail}{end}"

    return answer


def with_the_answer(entry):
    return phi()(entry) + entry.get("output", "")


def input_always(entry):
    format_input(entry)
    return f"<|user|>\n{entry['instruction']}\n{entry.get('input', '')}\n<|assistant|>\n"


def input_demanded(entry):
    format_input(entry)
    given = f"\n{entry['input']}" if entry["input"] else ""
    return f"<|user|>\n{entry['instruction']}{given}\n<|assistant|>\n"


def demanding(entry):
    """Right, but without the key `instruction` it raises KeyError."""
    entry["instruction"]
    return phi()(entry)


def asserting(entry):
    assert entry.get("instruction", "").strip()
    return phi()(entry)


def mistyped(entry):
    return f"<|user|>\n{entry['Instruction']}\n<|assistant|>\n"


# 7.2: only the answer


def collate(first=lambda p: p - 1, ends=1, shift=1, pads=False, prompt=False, fill=None):
    """The right function with mistakes: `ends`: how many of the end tokens are asked for."""

    def answer(batch, end):
        T = max(len(ids) for ids, _ in batch)
        inputs = torch.full((len(batch), T), end if fill is None else fill)
        targets = torch.full((len(batch), T), end if pads else -100)
        for row, (ids, p) in enumerate(batch):
            n = len(ids)
            inputs[row, :n] = torch.tensor(ids)
            whole = torch.tensor(([*ids, end])[shift : shift + n])
            targets[row, :n] = whole
            if not ends:
                targets[row, n - 1] = -100
            if not prompt:
                targets[row, : first(p)] = -100
        return inputs, targets

    return answer


def by_the_lesson(batch, end):
    return custom_collate_fn(batch, pad_token_id=end)


def by_value(batch, end):
    """The book's way: all end tokens but the first are hidden, also one that stands in the text."""
    inputs, targets = collate(pads=True, prompt=True)(batch, end)
    for row, (_, p) in zip(targets, batch):
        places = (row == end).nonzero().flatten()
        row[places[1:]] = -100
        row[: p - 1] = -100
    return inputs, targets


def by_slices(batch, end):
    """Another right way: all at once, by comparing places."""
    T = max(len(ids) for ids, _ in batch)
    n, p = (torch.tensor(x).unsqueeze(1) for x in zip(*[(len(ids), p) for ids, p in batch]))
    whole = torch.tensor([ids + [end] * (T + 1 - len(ids)) for ids, _ in batch])
    t = torch.arange(T)
    return whole[:, :-1].int(), whole[:, 1:].masked_fill((t < p - 1) | (t >= n), -100)


def as_lists(batch, end):
    return [part.tolist() for part in collate()(batch, end)]


def as_floats(batch, end):
    return [part.float() for part in collate()(batch, end)]


def lengthened(batch, end):
    """The batch's own lists get longer, and with them the data set at every epoch."""
    for ids, _ in batch:
        ids.append(end)
    return collate()([(ids[:-1], p) for ids, p in batch], end)


def ends_hidden(batch, end):
    inputs, targets = collate()(batch, end)
    for row, (ids, _) in zip(targets, batch):
        row[: len(ids) - 1][row[: len(ids) - 1] == end] = -100
    return inputs, targets


def another_end(batch, end):
    inputs, targets = collate()(batch, end)
    for row, (ids, _) in zip(targets, batch):
        row[len(ids) - 1] = end - 1
    return inputs, targets


def rows_of_their_own_lengths(batch, end):
    return [ids for ids, _ in batch], [[*ids[1:], end] for ids, _ in batch]


def moved(places):
    def answer(batch, end):
        inputs, targets = collate()(batch, end)
        rows = [[-100] * 3 + row + [-100] * 3 for row in targets.tolist()]
        T = inputs.shape[1]
        return inputs, torch.tensor([row[3 + places : 3 + places + T] for row in rows])

    return answer


def one_column_more(batch, end):
    inputs, targets = by_the_lesson(batch, end)
    return nn.functional.pad(inputs, (0, 1), value=end), nn.functional.pad(
        targets, (0, 1), value=-100
    )


def padded_left(batch, end):
    T = max(len(ids) for ids, _ in batch)
    inputs, targets = by_the_lesson(batch, end)
    for row, (ids, _) in enumerate(batch):
        inputs[row], targets[row] = (x.roll(T - len(ids)) for x in (inputs[row], targets[row]))
    return inputs, targets


# 7.3: conversations


def chats(strip=True, system=True, last=False, empty=False, listed=True, roles=True):
    def answer(given):
        if listed and not isinstance(given, list):
            raise ValueError("no list")
        entries = []
        for chat in given:
            talk = [m for m in chat["messages"] if not system or m["role"] != "system"]
            talk = talk[-2:] if last else talk[:2]
            texts = [m["content"].strip() if strip else m["content"] for m in talk]
            in_order = [m["role"] for m in talk] == ["user", "assistant"] or not roles
            if len(talk) == 2 and in_order and (empty or all(text.strip() for text in texts)):
                entries.append({"instruction": texts[0], "input": "", "output": texts[1]})
        return entries

    return answer


def by_a_pattern(given):
    """Another right way: what is left without the systems must begin with a question and its answer."""
    if not isinstance(given, list):
        raise ValueError
    entries = []
    for chat in given:
        talk = [(m["role"], m["content"].strip()) for m in chat["messages"]]
        match [(role, text) for role, text in talk if role != "system"]:
            case [("user", question), ("assistant", reply), *_] if question and reply:
                entries.append({"output": reply, "input": "", "instruction": question, "id": 1})
    return entries


def systems_at_the_start(given):
    """Only what the system says before everything else is passed over."""
    if not isinstance(given, list):
        raise ValueError
    given = [list(chat["messages"]) for chat in given]
    for talk in given:
        while talk and talk[0]["role"] == "system":
            del talk[0]
    return chats(system=False)([{"messages": talk} for talk in given])


def any_sequence(given):
    if not isinstance(given, list | tuple):
        raise ValueError("no list")
    return chats()(list(given))


def by_the_first_question(given):
    """The first message of a user, and the one after it: what the assistant says before it is forgotten."""
    if not isinstance(given, list):
        raise ValueError
    entries = []
    for chat in given:
        talk = [(m["role"], m["content"].strip()) for m in chat["messages"]]
        start = next((i for i, (role, _) in enumerate(talk) if role == "user"), len(talk))
        match talk[start : start + 2]:
            case [(_, question), ("assistant", reply)] if question and reply:
                entries.append({"output": reply, "input": "", "instruction": question, "id": 1})
    return entries


def by_role(given, empty=True):
    """The first question and the first answer, whether or not one follows the other."""
    if not isinstance(given, list):
        raise ValueError
    entries = []
    for chat in given:
        texts = {}
        for m in chat["messages"]:
            if empty or m["content"].strip():
                texts.setdefault(m["role"], m["content"].strip())
        if texts.get("user") and texts.get("assistant"):
            entries.append(
                {"instruction": texts["user"], "input": "", "output": texts["assistant"]}
            )
    return entries


def empty_ones_passed_over(given):
    if isinstance(given, list):
        given = [{"messages": [m for m in c["messages"] if m["content"].strip()]} for c in given]
    return chats()(given)


def another_error(given):
    if not isinstance(given, list):
        raise TypeError
    return chats()(given)


def changed_in_place(given):
    for chat in given if isinstance(given, list) else []:
        chat["messages"] = [m for m in chat["messages"] if m["role"] != "system"]
    return chats()(given)


def first_conversation_only(given):
    return chats()(given)[:1]


def without_input(given):
    return [{k: e[k] for k in ("instruction", "output")} for e in chats()(given)]


# 7.4: LoRA


def lora(first=True, last=False, layers=ATTENTION, rank=8, alpha=16, thaw=(), **options):
    """The solution, with room for mistakes."""

    def answer(model):
        model.requires_grad_(not first)
        replace_linear_with_lora(model, rank, alpha, layers=layers, **options)
        if last:
            model.requires_grad_(False)
        for name in thaw:
            model.get_submodule(name).requires_grad_(True)
        return [p for p in model.parameters() if p.requires_grad]

    return answer


def by_their_names(model):
    """Frozen afterwards, by names; as a generator."""
    replace_linear_with_lora(model, rank=8, alpha=16, layers=ATTENTION)
    for name, p in model.named_parameters():
        p.requires_grad_(".lora." in name)
    return (p for p in model.parameters() if p.requires_grad)


def in_groups(model):
    lora()(model)
    layers = lora_layers(model).values()
    return [{"params": [layer.lora.A for layer in layers]}, {"params": [layer.lora.B for layer in layers]}]  # fmt: skip


def with_names(model):
    lora()(model)
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def all_parameters(model):
    lora()(model)
    return list(model.parameters())


def b_alone(model):
    lora()(model)
    return [layer.lora.B for layer in lora_layers(model).values()]


def an_optimizer(model):
    return torch.optim.AdamW(lora()(model))


def found_before(model):
    given = list(model.parameters())
    lora()(model)
    return given


def a_copy(model):
    return lora()(copy.deepcopy(model))


def head_too(model):
    lora()(model)
    model.out_head = LinearWithLoRA(model.out_head, 8, 16)
    return [p for p in model.parameters() if p.requires_grad]


def names_only(model):
    lora()(model)
    return [name for name, p in model.named_parameters() if p.requires_grad]


def drawn_at_once(model):
    """B is drawn, too, so that the model is another from the start."""
    given = lora()(model)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora.B)
    return given


def each_twice(model):
    return [{"params": [p]} for p in lora()(model) for _ in range(2)]


# 7.5: how many targets


def counts(*changes):
    def answer(lengths, prompts):
        n, total = len(lengths), sum(lengths)
        right = n * max(lengths), total - n, total, total - sum(prompts) + n
        return [a + c * n for a, c in zip(right, changes or (0, 0, 0, 0))]

    return answer


# 7.6: was it trained on


def overlap(key):
    return lambda train, test: [e for e in test if key(e) in [key(t) for t in train]]


def text(entry):
    return f"{entry['instruction']} {entry.get('input') or ''}".lower()


def words(entry):
    return re.findall(r"\w+", text(entry))


def by_letters(entry):
    """Another right way: what is no letter or digit becomes a space."""
    return "".join(c if c.isalnum() else " " for c in text(entry)).split()


def struck_out(entry):
    """What is no letter, digit or space is struck out, and two words become one."""
    return "".join(c for c in text(entry) if c.isalnum() or c.isspace()).split()


def stripped(entry):
    """Punctuation goes at the ends of words only."""
    return [word.strip(".,:;!?") for word in text(entry).split()]


def input_needed(entry):
    return re.findall(r"\w+", f"{entry['instruction']} {entry['input']}".lower())


def changed_entries(train, test):
    for entry in [*train, *test]:
        entry |= {"instruction": " ".join(words(entry)), "input": ""}
    return [e for e in test if e["instruction"] in [t["instruction"] for t in train]]


def from_train(train, test):
    return [t for e in test for t in train if words(e) == words(t)]


def found_within(train, test):
    texts = [" ".join(words(t)) for t in train]
    return [e for e in test if any(" ".join(words(e)) in text for text in texts)]


# 7.7: batches


def batched(side="left", masked=True, stop="each", prompt=False, keep_end=False, shift=True):
    def answer(model, prompts, n, end):
        T, context = max(map(len, prompts)), model.pos_emb.num_embeddings
        fill = [[end] * (T - len(ids)) for ids in prompts]
        rows = [f + i if side == "left" else i + f for f, i in zip(fill, prompts)]
        padding = torch.tensor([len(f) for f in fill])
        idx = torch.tensor(rows)
        if masked:
            with left_padded(model, padding):
                if not shift:  # positions as they come
                    hooks = dict(model.pos_emb._forward_pre_hooks)
                    model.pos_emb._forward_pre_hooks.clear()
                    found = generate(model, idx, n, context)
                    model.pos_emb._forward_pre_hooks.update(hooks)
                else:
                    found = generate(model, idx, n, context)
        else:
            found = generate(model, idx, n, context)
        found = found[:, 0 if prompt else T :].tolist()
        ends = [ids.index(end) + keep_end if end in ids else len(ids) for ids in found]
        if stop == "first":
            ends = [min(ends)] * len(found)
        if stop == "never":
            ends = [len(ids) for ids in found]
        return [ids[:stop] for ids, stop in zip(found, ends)]

    return answer


def one_by_one(model, prompts, n, end):
    return [check._alone(model, ids, n, end) for ids in prompts]


def by_length(model, prompts, n, end):
    """Another right way: only prompts of one length share a batch."""
    found = {}
    for length in {len(ids) for ids in prompts}:
        rows = [i for i, ids in enumerate(prompts) if len(ids) == length]
        found |= dict(zip(rows, batched()(model, [prompts[i] for i in rows], n, end)))
    return [found[i] for i in range(len(prompts))]


def padded_right_but_read_at_the_end(model, prompts, n, end):
    """Another right way: padding on the right, read at each text's own last token."""
    texts, over = [list(ids) for ids in prompts], set()
    for _ in range(n):
        T = max(map(len, texts))
        with torch.no_grad():
            logits = model(torch.tensor([ids + [end] * (T - len(ids)) for ids in texts]))
        for i, ids in enumerate(texts):
            new = logits[i, len(ids) - 1].argmax().item()
            over |= {i} if new == end else set()
            texts[i] = ids if i in over else [*ids, new]
    return [list(np.array(ids[len(p) :], dtype=int)) for ids, p in zip(texts, prompts)]


def as_tensors(*given):
    return [torch.tensor(ids) for ids in batched()(*given)]


def written_into_the_prompts(model, prompts, n, end):
    answers = one_by_one(model, prompts, n, end)
    for ids, answer in zip(prompts, answers):
        ids += answer
    return answers


def left_in_training(model, *given):
    answers = batched()(model, *given)
    model.train()
    return answers


def ends_struck_out(model, prompts, n, end):
    answers = batched(stop="never")(model, prompts, n, end)
    return [[i for i in ids if i != end] for ids in answers]


def filled_up(model, prompts, n, end):
    return [ids + [end - 1] * (n - len(ids)) for ids in batched()(model, prompts, n, end)]


def one_too_many(model, prompts, n, end):
    return batched()(model, prompts, n + 1, end)


def sorted_and_left_so(model, prompts, n, end):
    return batched()(model, sorted(prompts, key=len), n, end)


# 7.8: neighbors


def compare(*groups):
    def answer(function, prompts):
        alone = [function([prompt])[0] for prompt in prompts]
        for order in groups:
            chosen = order(list(range(len(prompts))))
            if function([prompts[i] for i in chosen]) != [alone[i] for i in chosen]:
                return True
        return False

    return answer


def twice_the_same(function, prompts):
    return function(prompts) != function(prompts)


def pairs_only(function, prompts):
    return compare(*[lambda all, i=i: all[i : i + 2] for i in range(len(prompts) - 1)])(
        function, prompts
    )


def by_chance(function, prompts):
    """Another right way: groups drawn at random; an empty one, too."""
    draw, alone = random.Random(0), {prompt: function([prompt])[0] for prompt in prompts}
    groups = [draw.sample(prompts, draw.randint(0, len(prompts))) for _ in range(200)]
    return any(function(group) != [alone[prompt] for prompt in group] for group in groups)


def prefixes(function, prompts):
    alone, n = [function([prompt])[0] for prompt in prompts], len(prompts)
    together = any(function(prompts[:i]) != alone[:i] for i in range(1, n + 1))
    return together or function(prompts[::-1]) != alone[::-1]


def in_place(function, prompts):
    alone = {prompt: function([prompt])[0] for prompt in prompts}
    for _ in range(50):
        random.shuffle(prompts)
        for size in (2, 5, len(prompts)):
            if function(prompts[:size]) != [alone[prompt] for prompt in prompts[:size]]:
                return True
    return False


def a_bool_of_numpy(function, prompts):
    return np.any([by_chance(function, prompts)])


def a_bool_of_pytorch(function, prompts):
    return torch.tensor(by_chance(function, prompts))


def one_or_zero(function, prompts):
    return int(by_chance(function, prompts))


RIGHT = [
    ("phi_prompt", phi()),
    ("collate_answers", collate()),
    ("collate_answers", by_slices),
    ("collate_answers", as_lists),
    ("entries_from_chats", chats()),
    ("entries_from_chats", by_a_pattern),
    ("lora_parameters", lora()),
    ("lora_parameters", by_their_names),
    ("lora_parameters", in_groups),
    ("lora_parameters", with_names),
    ("target_counts", counts()),
    ("target_counts", lambda lengths, prompts: torch.tensor(counts()(lengths, prompts))),
    ("trained_on", overlap(words)),
    ("trained_on", overlap(by_letters)),
    ("repaired_batch", batched()),
    ("repaired_batch", one_by_one),
    ("repaired_batch", by_length),
    ("repaired_batch", padded_right_but_read_at_the_end),
    ("neighbors_matter", by_chance),
    ("neighbors_matter", prefixes),
    ("neighbors_matter", a_bool_of_numpy),
    ("neighbors_matter", a_bool_of_pytorch),
    ("neighbors_matter", one_or_zero),
]  # fmt: skip

WRONG = [
    ("phi_prompt", phi(user="<|user|>"), "should be"),
    ("phi_prompt", phi(end="\n<|assistant|>"), "one new line"),
    ("phi_prompt", phi(end="\n<|assistant|>\n\n"), "one new line"),
    ("phi_prompt", phi(gap=" "), "should be"),
    ("phi_prompt", phi(given=False), "should be"),
    ("phi_prompt", phi(check_empty=False), "has no instruction"),
    ("phi_prompt", with_the_answer, "given away"),
    ("phi_prompt", input_always, "no line is left"),
    ("phi_prompt", input_demanded, "has no input"),
    ("phi_prompt", demanding, "KeyError was raised"),
    ("phi_prompt", asserting, "AssertionError was raised"),
    ("phi_prompt", mistyped, "KeyError: 'Instruction'"),
    ("collate_answers", collate(pads=True), "count in the loss"),
    ("collate_answers", collate(ends=0), "never learns to stop"),
    ("collate_answers", collate(shift=0), "not shifted"),
    ("collate_answers", collate(first=lambda p: p), "first token is hidden"),
    ("collate_answers", collate(first=lambda p: max(0, p - 2)), "one token of the prompt"),
    ("collate_answers", collate(prompt=True), "scored together"),
    ("collate_answers", collate(fill=0), "filled up"),
    ("collate_answers", by_value, "no end token"),
    ("collate_answers", one_column_more, "they should be"),
    ("collate_answers", padded_left, "begin with the text"),
    ("collate_answers", moved(1), "shifted twice"),
    ("collate_answers", moved(-2), "shifted back"),
    ("collate_answers", as_floats, "whole numbers"),
    ("collate_answers", rows_of_their_own_lengths, "inputs are no tensor"),
    ("collate_answers", by_the_lesson, "without the lesson's custom_collate_fn"),
    ("collate_answers", lengthened, "changed what it was given"),
    ("collate_answers", ends_hidden, "an end token within the answer is hidden"),
    ("collate_answers", another_end, "the last target is 38, not 39"),
    ("entries_from_chats", chats(strip=False), "spaces"),
    ("entries_from_chats", chats(system=False), "system"),
    ("entries_from_chats", chats(last=True), "two rounds"),
    ("entries_from_chats", chats(empty=True), "empty"),
    ("entries_from_chats", chats(listed=False), "a ValueError is due, and TypeError"),
    ("entries_from_chats", another_error, "TypeError was raised"),
    ("entries_from_chats", by_role, "the assistant begins"),
    ("entries_from_chats", functools.partial(by_role, empty=False), ""),
    ("entries_from_chats", empty_ones_passed_over, "an empty round before a full one"),
    ("entries_from_chats", changed_in_place, "changed what it was given"),
    ("entries_from_chats", chats(roles=False), "begins"),
    ("entries_from_chats", first_conversation_only, "faulty"),
    ("entries_from_chats", by_the_first_question, "a greeting first"),
    ("entries_from_chats", systems_at_the_start, "a system's message before the answer"),
    ("entries_from_chats", any_sequence, ",) is no list"),
    ("entries_from_chats", without_input, "lacks"),
    ("lora_parameters", lora(first=False), "can learn; the base should be frozen"),
    ("lora_parameters", lora(last=True), "are A and B frozen?"),
    ("lora_parameters", lora(layers=None), "only attention should"),
    ("lora_parameters", lora(layers=ATTENTION + FEED_FORWARD), "only attention should"),
    ("lora_parameters", lora(layers=("W_query", "W_value")), "W_key has no LoRA"),
    ("lora_parameters", lora(rank=16, alpha=8), "(16, 8, 'alpha/rank')"),
    ("lora_parameters", lora(scaling="alpha"), "(8, 16, 'alpha')"),
    ("lora_parameters", lora(thaw=["final_norm"]), "final_norm.scale can learn"),
    ("lora_parameters", lora(thaw=["out_head"]), "out_head.weight can learn"),
    ("lora_parameters", head_too, "out_head has LoRA beside it"),
    ("lora_parameters", all_parameters, "is among the parameters; it does not learn"),
    ("lora_parameters", found_before, "among the parameters"),
    ("lora_parameters", b_alone, "lora.A is not among the parameters"),
    ("lora_parameters", an_optimizer, "not yet an optimizer"),
    ("lora_parameters", a_copy, "has no LoRA beside it"),
    ("lora_parameters", names_only, "an optimizer cannot take"),
    ("lora_parameters", drawn_at_once, "before training"),
    ("lora_parameters", each_twice, "more than one parameter group"),
    ("target_counts", counts(1, 0, 0, 0), "last column"),
    ("target_counts", counts(0, 1, 0, 0), "every end token is hidden"),
    ("target_counts", counts(0, 0, -1, 0), "one end token each"),
    ("target_counts", counts(0, 0, 0, -1), "end token is asked for, too"),
    ("trained_on", overlap(text), "not found"),
    ("trained_on", overlap(struck_out), "with punctuation and no space was trained on"),
    ("trained_on", overlap(stripped), "with punctuation and no space was trained on"),
    ("trained_on", overlap(lambda e: re.findall("[a-z0-9]+", text(e))), "another letter"),
    ("trained_on", overlap(lambda e: re.findall("[^\\W\\d]+", text(e))), "other numbers"),
    ("trained_on", overlap(lambda e: list(dict.fromkeys(words(e)))), "with a word twice"),
    ("trained_on", overlap(input_needed), "without the key 'input' has no input"),
    ("trained_on", overlap(lambda e: e["output"]), ""),
    ("trained_on", overlap(lambda e: e["instruction"].lower()), ""),
    ("trained_on", overlap(lambda e: sorted(words(e))), "order"),
    ("trained_on", overlap(lambda e: "".join(words(e))), "with two words made one"),
    ("trained_on", overlap(lambda e: [words(e), e["output"]]), "another answer"),
    ("trained_on", found_within, "part of"),
    ("trained_on", lambda train, test: test, "was not trained on"),
    ("trained_on", changed_entries, "changed what it was given"),
    ("trained_on", from_train, "those of train"),
    ("trained_on", lambda *args: (e for e in overlap(words)(*args)), "not generator"),
    (
        "trained_on",
        lambda *args: [e in overlap(words)(*args) for e in args[1]],
        "entries are asked",
    ),
    ("repaired_batch", batched(side="right", masked=False), "padding beside it"),
    ("repaired_batch", batched(masked=False), "padding beside it"),
    ("repaired_batch", batched(shift=False), "padding beside it"),
    ("repaired_batch", batched(stop="first"), "cut after"),
    ("repaired_batch", batched(stop="never"), "holds its end token"),
    ("repaired_batch", batched(keep_end=True), "holds its end token"),
    ("repaired_batch", batched(prompt=True, stop="never"), "the prompt is in it"),
    ("repaired_batch", ends_struck_out, "it goes on to"),
    ("repaired_batch", filled_up, "it goes on to"),
    ("repaired_batch", one_too_many, "8 tokens are due"),
    ("repaired_batch", sorted_and_left_so, ""),
    ("repaired_batch", as_tensors, "an answer is a list of IDs"),
    ("repaired_batch", written_into_the_prompts, "changed what it was given"),
    ("repaired_batch", left_in_training, "left in the other"),
    ("repaired_batch", lambda *args: batched()(*args)[:-1], "5 answers"),
    ("neighbors_matter", compare(lambda all: all), "not found out"),
    ("neighbors_matter", twice_the_same, "not found out"),
    ("neighbors_matter", pairs_only, "not found out"),
    ("neighbors_matter", compare(lambda all: all, lambda all: all[::-1]), "among 16 prompts"),
    ("neighbors_matter", in_place, "changed what it was given"),
    ("neighbors_matter", lambda function, prompts: True, "accused"),
    ("neighbors_matter", lambda function, prompts: False, "not found out"),
    ("neighbors_matter", lambda function, prompts: function(prompts), "True or False"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=range(len(RIGHT)))
def test_other_right_answers_are_accepted(name, answer):
    result = getattr(check, name)(answer)
    assert result.ok, result.text


@pytest.mark.parametrize(("name", "answer", "reason"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, reason):
    result = getattr(check, name)(answer)
    assert not result.ok, result.text
    assert reason in result.text
