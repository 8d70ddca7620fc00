"""`from previous_chapters import ...` for a notebook that runs outside its chapter's folder: a copy in my/, or from here.

It knows the names of all chapters. In a chapter's own folder Python finds the shorter one there first.
"""

import importlib

TOPICS = "pytorch intro text_data attention gpt_model pretraining training classification instruction lora preference".split()


def __getattr__(name):
    # in the order of the course, so that what comes later need not be imported
    for topic in [] if name.startswith("_") else TOPICS:
        module = importlib.import_module(f"shared.{topic}")
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"no chapter promotes {name!r}")
