"""What a file of prompts is asked for; the flags of script/export_prompts.py follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from coverage_principle.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, setting


@dataclass(frozen=True)
class PromptSettings(Settings):
    """How items become prompts in natural language, and which training items stand before them."""

    template: str = setting(
        help="the sentence, with slots and answer of the task in braces, such as 'The child of "
        "{x1} and {x2} married {x3}. Their child is {t}.' What stands before the answer is the "
        "prompt, the rest the completion; an empty {} lets the completion begin earlier",
        group="prompt",
    )
    cot: bool = setting(
        False,
        "chain of thought: the template names the intermediate values too, and the completion "
        "begins at the first of them",
        group="prompt",
    )
    names: str | None = setting(
        None,
        "names for tokens: a .json file with an object token -> name, with a list of names to draw "
        "from, or with an object alphabet -> list; a text file with a name a line; or the word "
        "tokens for the tokens' own (default: made-up words)",
        metavar="FILE",
        group="prompt",
    )
    shots: int = setting(
        0,
        "so many training items, in the same template, stand before each prompt",
        at_least=0,
        metavar="N",
        group="shots",
    )
    inside: int | None = setting(
        None,
        "choose shots that alone cover the item at this k (by fragments that act alike in K "
        "contexts); takes 2 K + 1 of them",
        at_least=1,
        metavar="K",
        group="shots",
    )
    outside: bool = setting(
        False, "choose shots that alone do not cover the item at any k", group="shots"
    )
    fragments: str | None = setting(
        None,
        "which slots a fragment may consist of, where coverage by the shots is counted: 1,2 for x1 "
        "and x2 together; 1,2;2,3 for two such sets; contiguous for neighbours only (default: all "
        "sets)",
        metavar="SETS",
        group="shots",
    )
    split: str = setting(
        "test", "the items that are asked for", choices=("test", "valid", "train"), group="items"
    )
    test_types: tuple[str, ...] = setting(
        (),
        "only items of these types, such as type_0 (default: all)",
        metavar="TYPE",
        group="items",
    )
    max_items: int | None = setting(
        None, "at most so many prompts of each type (default: all)", at_least=1, group="items"
    )
    chat: bool = setting(
        False,
        "chat messages, the shots as earlier turns, in place of prompt and completion",
        group="written",
    )
    seed: int = setting(
        42,
        "by which names and shots are drawn",
        at_least=0,
        at_most=MOST_SEED,
        metavar="SEED",
        group="prompt",
    )
    output: str | None = setting(
        None,
        "(default: prompts.jsonl in the data set's folder)",
        metavar="FILE.jsonl",
        group="written",
    )

    def check(self) -> None:
        super().check()
        if self.inside is not None and self.outside:
            raise InputError("`inside` and `outside` exclude each other")
        for name in ("outside", "fragments"):
            if getattr(self, name) and self.shots == 0:
                raise InputError(f"`{name}` is about the shots in a prompt; give `shots` with it")
        if self.inside is not None and self.shots < (needed := 2 * self.inside + 1):
            raise InputError(
                f"`inside` {self.inside} takes {needed} `shots` or more, not {self.shots}"
            )
        if self.test_types and self.split == "train":
            raise InputError("`test_types` are types of test items; training items have none")
        if self.output is not None and not self.output.endswith(".jsonl"):
            raise InputError(f"`output` {self.output} must end in .jsonl")
