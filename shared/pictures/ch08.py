"""Pictures of chapter 8: the three steps of RLHF, and what its runs brought."""

from shared import diagrams
from shared.plotting import PALE


def rlhf():
    """Supervised fine-tuning, reward model and reinforcement learning as boxes and arrows."""
    boxes = {
        "answers": (0, 0, "prompts and answers\nthat people wrote"),
        "assistant": (1, 0, "1. assistant"),
        "pairs": (0, 1, "two answers of it,\npeople prefer one"),
        "reward model": (1, 1, "2. reward model"),
        "policy": (2, 0, "3. policy"),
        "score": (2, 1, "score, minus a price\nfor moving away"),
    }
    arrows = [
        "answers -> assistant -> policy",
        "pairs -> reward model -> score",
        "assistant -> pairs",
        "policy -> score: writes",
        "score -> policy: changes",
    ]
    own = ("assistant", "reward model", "policy")
    return diagrams.diagram(boxes, arrows, colors=dict.fromkeys(own, PALE[0]))
