"""The names of earlier chapters that ch08.ipynb imports; written by `make promote`."""

from shared.instruction import generate_batch, generate_responses, short_prompt
from shared.lora import adapter_off
from shared.training import learning_rate

__all__ = ["adapter_off", "generate_batch", "generate_responses", "learning_rate", "short_prompt"]
