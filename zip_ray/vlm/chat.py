"""What stands around a prompt: the chat template of the processor, with the image before the text."""

from dataclasses import dataclass
from typing import Any

from zip_ray.errors import InputError
from zip_ray.vlm.frozen_vlm import FrozenVlm

MARK, ANSWER = "THE-PROMPT", "THE-ANSWER"
"""Where prompt and answer go in a template that is taken apart."""


@dataclass(frozen=True)
class Chat:
    """A sequence is `before`, soft prompt, question, `after`, answer, end token."""

    before: str
    """System text and image."""
    after: str
    """From the question to the answer."""
    blind: str
    """`before` without its image: what the text-only prior begins with."""
    end: int
    """Token id behind an answer."""

    def question_ids(self, vlm: FrozenVlm, question: str) -> list[int]:
        """Tokens between the soft prompt and the answer."""
        return vlm.token_ids(f" {question}" if question else "") + vlm.token_ids(self.after)

    def answer_ids(self, vlm: FrozenVlm, answer: str) -> list[int]:
        """Tokens of an answer, its end token included: else "cat" would beat "cat fish" by being its start.

        Raises:
            InputError: it is empty.
        """
        gap = " " if self.after and not self.after[-1].isspace() and self.after[-1] not in ">]" else ""
        text, context = f"{gap}{answer.strip()}", vlm.token_ids(self.after)
        whole = vlm.token_ids(self.after + text)
        ids = whole[len(context) :] if whole[: len(context)] == context else vlm.token_ids(text)
        if not answer.strip() or not ids:
            raise InputError(f"task.name: the answer '{answer}' is empty to the model: give it words")
        return [*ids, self.end]


def read_chat(vlm: FrozenVlm) -> Chat:
    """Take the processor's chat template apart; without one, a sequence is image, prompt and answer, a line each.

    Raises:
        InputError: the template puts text before the image, or has no place for one.
    """
    template = getattr(vlm.processor, "chat_template", None) or getattr(vlm.tokenizer, "chat_template", None)
    if not template:
        return Chat(f"{vlm.image_token}\n", "\n", "", _end(vlm, ""))
    text = {"type": "text", "text": MARK}
    answered = {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}
    asked, blind = ({"role": "user", "content": content} for content in ([{"type": "image"}, text], [text]))

    def rendered(*messages: dict[str, Any], ask: bool) -> str:
        try:
            return str(vlm.processor.apply_chat_template(list(messages), add_generation_prompt=ask, tokenize=False))
        except Exception as error:  # templates are programs
            raise InputError(f"model.name: '{vlm.name}': its chat template fails ({error}): correct it") from error

    before, found, after = rendered(asked, ask=True).partition(MARK)
    if not found or vlm.image_token not in before:
        raise InputError(
            f"model.name: '{vlm.name}': its chat template puts no image before the text: give one that does"
        )
    return Chat(
        before,
        after,
        rendered(blind, ask=True).partition(MARK)[0],
        _end(vlm, rendered(asked, answered, ask=False).partition(ANSWER)[2]),
    )


def _end(vlm: FrozenVlm, behind: str) -> int:
    """The token that ends an answer: the special one that the template puts there, or the tokenizer's."""
    ids = vlm.token_ids(behind.strip())
    special = {*vlm.tokenizer.all_special_ids, *getattr(vlm.tokenizer, "added_tokens_decoder", {})}
    if ids and ids[0] in special:
        return ids[0]
    if vlm.tokenizer.eos_token_id is None:
        raise InputError(f"model.name: '{vlm.name}': its tokenizer has no end token: give it an eos_token")
    return int(vlm.tokenizer.eos_token_id)
