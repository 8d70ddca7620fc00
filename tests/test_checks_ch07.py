"""Every check of chapter 7's exercises: accepts the solution, refuses the stub and the usual wrong answers."""

import functools
import math
import re

import notebooks
import pytest
import torch
from torch import nn

from shared.checks import ch07 as check
from shared.instruction import custom_collate_fn, format_input, left_padded
from shared.pretraining import generate

answers = functools.partial(notebooks.answers, "ch07_instruction")


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


def first_conversation_only(given):
    return chats()(given)[:1]


def without_input(given):
    return [{k: e[k] for k in ("instruction", "output")} for e in chats()(given)]


# 7.4: LoRA


class LoRA(nn.Module):
    freeze, zero_a, zero_b, scaled, keep = True, False, True, True, True

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear, self.alpha = linear.requires_grad_(not self.freeze), alpha
        self.A = nn.Parameter(torch.zeros(linear.in_features, rank))
        self.B = nn.Parameter(torch.zeros(rank, linear.out_features))
        if not self.zero_a:
            nn.init.normal_(self.A, std=1 / math.sqrt(rank))
        if not self.zero_b:
            nn.init.normal_(self.B)

    def forward(self, x):
        change = x @ self.A @ self.B * (self.alpha if self.scaled else 1)
        return (self.linear(x) if self.keep else 0) + change


class Merged(LoRA):
    """Another right way: the correction is added to the matrix."""

    def forward(self, x):
        weight = self.linear.weight + self.alpha * (self.A @ self.B).T
        return nn.functional.linear(x, weight, self.linear.bias)


class Detached(LoRA):
    def forward(self, x):
        return self.linear(x) + self.alpha * (x @ self.A.detach() @ self.B)


class Transposed(LoRA):
    def __init__(self, linear, rank, alpha):
        super().__init__(linear, rank, alpha)
        self.A = nn.Parameter(torch.randn(rank, linear.in_features))


def lora(**changes):
    return type("Wrong", (LoRA,), changes)


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


def words(entry):
    return re.findall(r"\w+", f"{entry['instruction']} {entry['input']}".lower())


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


def sorted_and_left_so(model, prompts, n, end):
    return batched()(model, sorted(prompts, key=len), n, end)


# 7.8: neighbours


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


RIGHT = [
    ("phi_prompt", phi()),
    ("collate_answers", by_the_lesson),
    ("collate_answers", collate()),
    ("entries_from_chats", chats()),
    ("linear_with_lora", LoRA),
    ("linear_with_lora", Merged),
    ("target_counts", counts()),
    ("trained_on", overlap(words)),
    ("repaired_batch", batched()),
    ("repaired_batch", one_by_one),
    ("repaired_batch", by_length),
]  # fmt: skip

WRONG = [
    ("phi_prompt", phi(user="<|user|>"), "should be"),
    ("phi_prompt", phi(end="\n<|assistant|>"), "one new line"),
    ("phi_prompt", phi(end="\n<|assistant|>\n\n"), "one new line"),
    ("phi_prompt", phi(gap=" "), "should be"),
    ("phi_prompt", phi(given=False), "should be"),
    ("phi_prompt", phi(check_empty=False), "not refused"),
    ("phi_prompt", with_the_answer, "given away"),
    ("phi_prompt", input_always, "no line is left"),
    ("phi_prompt", input_demanded, "without input"),
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
    ("entries_from_chats", chats(strip=False), "spaces"),
    ("entries_from_chats", chats(system=False), "system"),
    ("entries_from_chats", chats(last=True), "two rounds"),
    ("entries_from_chats", chats(empty=True), "empty"),
    ("entries_from_chats", chats(listed=False), ""),
    ("entries_from_chats", chats(roles=False), "begins"),
    ("entries_from_chats", first_conversation_only, "faulty"),
    ("entries_from_chats", without_input, "lacks"),
    ("linear_with_lora", lora(freeze=False), "freeze"),
    ("linear_with_lora", lora(zero_a=True), "gradient"),
    ("linear_with_lora", lora(zero_b=False), "begin with zeros"),
    ("linear_with_lora", lora(scaled=False), "alpha"),
    ("linear_with_lora", lora(keep=False), "before training"),
    ("linear_with_lora", Detached, "no gradient reaches A"),
    ("linear_with_lora", Transposed, "A is"),
    ("target_counts", counts(1, 0, 0, 0), "last column"),
    ("target_counts", counts(0, 1, 0, 0), "every end token is hidden"),
    ("target_counts", counts(0, 0, -1, 0), "one end token each"),
    ("target_counts", counts(0, 0, 0, -1), "end token is asked for, too"),
    ("trained_on", overlap(lambda e: (e["instruction"], e["input"])), "not found"),
    ("trained_on", overlap(lambda e: e["output"]), ""),
    ("trained_on", overlap(lambda e: e["instruction"].lower()), ""),
    ("trained_on", overlap(lambda e: sorted(words(e))), "order"),
    ("trained_on", overlap(lambda e: "".join(words(e))), "run together"),
    ("trained_on", overlap(lambda e: [words(e), e["output"]]), "another answer"),
    ("trained_on", found_within, "part of"),
    ("trained_on", lambda train, test: test, "was not trained on"),
    ("repaired_batch", batched(side="right", masked=False), "padding beside it"),
    ("repaired_batch", batched(masked=False), "padding beside it"),
    ("repaired_batch", batched(shift=False), "padding beside it"),
    ("repaired_batch", batched(stop="first"), "cut after"),
    ("repaired_batch", batched(stop="never"), "holds its end token"),
    ("repaired_batch", batched(keep_end=True), "holds its end token"),
    ("repaired_batch", batched(prompt=True), ""),
    ("repaired_batch", sorted_and_left_so, ""),
    ("repaired_batch", lambda *args: batched()(*args)[:-1], "5 answers"),
    ("neighbours_matter", compare(lambda all: all), "not found out"),
    ("neighbours_matter", twice_the_same, "not found out"),
    ("neighbours_matter", pairs_only, "not found out"),
    ("neighbours_matter", lambda function, prompts: True, "accused"),
    ("neighbours_matter", lambda function, prompts: False, "not found out"),
    ("neighbours_matter", lambda function, prompts: function(prompts), "True or False"),
]

CHECKS = {
    "phi_prompt": "phi_prompt",
    "collate_answers": "collate_answers",
    "entries_from_chats": "entries_from_chats",
    "linear_with_lora": "LinearWithLoRA",
    "target_counts": "target_counts",
    "trained_on": "trained_on",
    "repaired_batch": "repaired_batch",
    "neighbours_matter": "neighbours_matter",
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_is_right(name):
    result = getattr(check, name)(answers("solutions.ipynb")[CHECKS[name]])
    assert result.ok, result.text


@pytest.mark.parametrize("name", CHECKS)
def test_the_stub_is_not_solved_yet(name):
    result = getattr(check, name)(answers("exercises.ipynb")[CHECKS[name]])
    assert not result.ok
    assert "not solved yet" in result.text


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=range(len(RIGHT)))
def test_other_right_answers_are_accepted(name, answer):
    result = getattr(check, name)(answer)
    assert result.ok, result.text


@pytest.mark.parametrize(("name", "answer", "reason"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, reason):
    result = getattr(check, name)(answer)
    assert not result.ok, result.text
    assert reason in result.text


def test_every_exercise_has_its_check():
    assert set(CHECKS) == {name for name, f in vars(check).items() if hasattr(f, "__wrapped__")}
