"""The names of earlier chapters that ch08.ipynb imports; written by `make promote`."""

from shared.instruction import generate_batch, generate_responses, short_prompt
from shared.lora import LoRALayer, adapter_off, replace_linear_with_lora
from shared.training import learning_rate

__all__ = [
    "LoRALayer",
    "adapter_off",
    "generate_batch",
    "generate_responses",
    "learning_rate",
    "replace_linear_with_lora",
    "short_prompt",
]
