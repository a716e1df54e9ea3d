"""The texts of the quickstart, written by us and put together from fixed seeds. Needs no torch.

Two things come out of the same banks of sentences:

* `quickstart_rows()`: the data set of the quickstart, customers' messages and for each the one routing line that
  a ticket system wants. `python -m finetune.training.corpus > datasets/quickstart.jsonl` writes the file.
* `pretraining_chats()`: what the built-in base model has read before: chats in which an assistant answers such
  messages politely in plain English, and repeats words and numbers when asked to.

What the two share and what they do not (tests/unit/training/test_builtin.py holds each point):

* the pretraining never shows the routing line, nor any of its fields (a name and a colon);
* no message of the data set is in the pretraining, nor is any sentence in which a customer states a problem:
  each bank of problems is cut in two, and each side draws from its own half. Greetings, the ways to name an
  order and the ways to say how urgent it is are shared;
* no order number of the data set is in the pretraining, and none is there twice in the data set.

So a held-out row of the data set is a new message around an order number that neither training nor pretraining
has shown: a problem sentence that the training rows also have (with other products), in a new combination.
"""

import json
import random
import sys
from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import Enum
from typing import Final

Chat = list[dict[str, str]]

QUEUES: Final = ("billing", "shipping", "returns", "account", "technical")
ROWS: Final = 480
URGENCIES: Final = ("high", "normal", "low")

PRODUCTS: Final = (
    "kettle", "desk lamp", "backpack", "coffee grinder", "rain jacket", "monitor", "office chair", "tent",
    "toaster", "blender", "suitcase", "heater", "sleeping bag", "bookshelf", "frying pan", "yoga mat",
)  # fmt: skip
GADGETS: Final = (
    "headset", "speaker", "camera", "bike light", "keyboard", "mouse", "smart watch", "fitness tracker",
    "baby monitor", "radio", "tablet", "game controller",
)  # fmt: skip

# Even entries are the data set's, odd ones the pretraining's (`_Half`).
PROBLEMS: Final[dict[str, tuple[str, ...]]] = {
    "billing": (
        "You charged my card twice for the {p}.",
        "There are two charges on my card for one {p}.",
        "The invoice for my {p} shows the wrong amount.",
        "The amount on my invoice is wrong.",
        "My discount code was not taken off the bill for the {p}.",
        "The discount is missing from my bill.",
        "I need an invoice with our company's VAT number for the {p}.",
        "Please send an invoice with our VAT number.",
        "I paid for the {p} by bank transfer and it still says unpaid.",
        "My payment for the {p} went through but it still says unpaid.",
        "Why was I charged more for the {p} than the price on your page?",
        "I was charged more than the price I saw for the {p}.",
        "My bank statement shows a payment that I do not recognise.",
        "There is a payment to you on my statement that I cannot explain.",
        "Can I still pay for the {p} in three instalments?",
        "Could I pay the bill for the {p} in instalments?",
    ),
    "shipping": (
        "My {p} has not arrived yet.",
        "The {p} I ordered has still not arrived.",
        "The tracking page for my {p} has not changed for a week.",
        "Tracking has shown no change for days.",
        "The courier says the {p} was delivered, but there is no parcel here.",
        "The parcel with my {p} is marked as delivered and it is not here.",
        "Can you send the {p} to my office address instead?",
        "Please deliver the {p} to a different address.",
        "Half of my parcel is missing; the {p} was not in the box.",
        "The box came without the {p}.",
        "When will the {p} be shipped?",
        "When does the {p} leave your warehouse?",
        "The driver left the parcel with the {p} out in the rain.",
        "The courier left my parcel in front of the wrong door.",
        "My parcel seems to be stuck at customs.",
        "Customs is holding the parcel with the {p}.",
    ),
    "returns": (
        "I would like to send the {p} back.",
        "I want to return the {p}.",
        "The {p} is the wrong colour and I want to exchange it.",
        "Can I exchange the {p} for another colour?",
        "How do I get a return label for the {p}?",
        "Please email me a return label.",
        "I returned the {p} two weeks ago and have not seen my refund.",
        "I sent the {p} back and am still waiting for the refund.",
        "You sent me the wrong {p}, so please take it back.",
        "I got the wrong {p} and want to send it back.",
        "The {p} is too small, can I swap it for a larger one?",
        "I need to swap the {p} for a smaller size.",
        "How many days do I have to return the {p}?",
        "Is it too late to return the {p}?",
        "I changed my mind and do not want to keep the {p}.",
        "I do not want to keep the {p} any more.",
    ),
    "account": (
        "I cannot log in to my account any more.",
        "Logging in to my account fails every time.",
        "The password reset email never reaches me.",
        "I asked for a new password and no email came.",
        "Please change the email address on my account.",
        "My account still has my old email address.",
        "I would like you to delete my account and my data.",
        "How do I close my account?",
        "Someone else seems to have used my account to buy something.",
        "I think somebody else has logged in to my account.",
        "My account is locked after too many attempts.",
        "It says that my account has been locked.",
        "The code for the two-step login does not come to my phone.",
        "I have a new phone and cannot get the login code.",
        "I have two accounts and want to merge them.",
        "Can you merge my old account with the new one?",
    ),
    "technical": (
        "The {p} does not turn on.",
        "My {p} will not switch on at all.",
        "After the last update my {p} keeps switching itself off.",
        "The {p} switches off after a few minutes.",
        "My {p} makes a loud grinding noise.",
        "There is a strange noise coming from the {p}.",
        "The app cannot find my {p} over Bluetooth.",
        "I cannot connect the {p} to the app.",
        "The battery of my {p} is empty after an hour.",
        "The battery in the {p} does not charge.",
        "A button on my {p} is broken.",
        "One part of the {p} broke on the first day.",
        "The light on the {p} blinks red and nothing works.",
        "The {p} shows an error and then stops working.",
        "How do I reset the {p} to its factory settings?",
        "Where do I find the manual for the {p}?",
    ),
}

GREETINGS: Final = (
    "", "", "", "", "Hi,", "Hello,", "Hi there,", "Good morning,", "Dear team,", "Hey,", "Good evening,",
)  # fmt: skip
GOODBYES: Final = (
    "", "", "", "", "", "", "Best, {n}", "Thanks, {n}", "Kind regards, {n}", "Cheers, {n}", "{n}",
)  # fmt: skip
NAMES: Final = (
    "Anna", "Omar", "Lucia", "Jonas", "Mei", "Priya", "Tom", "Fatima", "Pavel", "Ines", "Kofi", "Sara",
)  # fmt: skip
ORDERS: Final = (
    "My order number is {o}.", "The order is {o}.", "Order {o}.", "It is about order {o}.", "This is order {o}.",
    "I am writing about {o}.", "Reference: {o}.", "You will find it under {o}.", "(order {o})", "Order no. {o}.",
)  # fmt: skip
HURRY: Final[dict[str, tuple[str, ...]]] = {
    "high": (
        "I need an answer today.", "This is urgent.", "Please hurry, I leave tomorrow.", "I need this fixed now.",
        "It cannot wait any longer.", "Please treat this as urgent.", "Get back to me at once, please.",
        "I have a deadline tonight.",
    ),
    "normal": (
        "", "", "", "Can you look into it?", "Please let me know.", "What should I do?", "Please advise.",
        "Could you check, please?",
    ),
    "low": (
        "There is no rush.", "Take your time.", "It can wait until next week.", "Whenever you have a moment.",
        "No hurry at all.", "It is not urgent.", "Any time this month is fine.", "It is not that important.",
    ),
}  # fmt: skip

_GOODS: Final = {"technical": GADGETS, "returns": PRODUCTS}
_SORRY: Final = ("I am sorry about the trouble.", "Thank you for writing to us.")
_SMALL_TALK: Final = (
    ("Hello", "Hello! How can I help you?"),
    ("Hi there", "Hello! How can I help you?"),
    ("Good morning", "Good morning! How can I help you?"),
    ("How are you?", "I am well, thank you. How can I help you?"),
    ("Who are you?", "I am a small model that was built on your machine a moment ago."),
    ("What can you do?", "I can chat a little. Train me and I will do one thing well."),
    ("Thank you", "You are welcome."),
    ("Thanks a lot, bye", "You are welcome. Goodbye!"),
)
_SYSTEM: Final = (
    "You are a helpful assistant.", "Answer the customer politely.", "You work in customer support.",
)  # fmt: skip
_FIELDS: Final = ("queue", "order", "urgency")
_WORDS: Final = (
    "river", "stone", "garden", "paper", "window", "silver", "bridge", "orange", "music", "winter", "letter",
    "market", *_FIELDS, "none", "billing", "shipping", "returns", "account", "technical",
    "high", "normal", "low",
)  # fmt: skip
_JOINTS: Final = (": ", " ", " ", ", ", " | ", " - ")


class _Half(Enum):
    """Which entries of each bank of problems are whose: the offset of a stride of two."""

    DATA_SET = 0
    PRETRAINING = 1


@dataclass(frozen=True)
class Ticket:
    """One customer message and what is true of it. `order` is None where the customer gives no number."""

    message: str
    #: One of `QUEUES`.
    queue: str
    order: str | None
    #: One of `URGENCIES`.
    urgency: str

    @property
    def line(self) -> str:
        """The routing line that the quickstart teaches."""
        return f"queue: {self.queue} | order: {self.order or 'none'} | urgency: {self.urgency}"

    def reply(self, rng: random.Random) -> str:
        """A polite answer as the base model gives it."""
        what = f"order {self.order}" if self.order else "it"
        return f"{rng.choice(_SORRY)} Our {self.queue} team will look at {what} with {self.urgency} urgency."


def quickstart_rows() -> list[Chat]:
    """The rows of `datasets/quickstart.jsonl`: a customer's message and its routing line. Always the same.

    No two rows share a message or an order number; the queues come in equal parts.
    """
    return [_turns(ticket.message, ticket.line) for ticket in quickstart_tickets()]


def quickstart_tickets() -> list[Ticket]:
    """What `quickstart_rows` is made of, row by row. Always the same."""
    rng = random.Random(20261)
    orders: set[str] = set()
    tickets: dict[str, Ticket] = {}
    while len(tickets) < ROWS:
        ticket = _ticket(rng, QUEUES[len(tickets) % len(QUEUES)], _Half.DATA_SET, reserved=orders)
        if ticket.order:
            orders.add(ticket.order)
        tickets.setdefault(ticket.message, ticket)
    shuffled = list(tickets.values())
    rng.shuffle(shuffled)
    return shuffled


def pretraining_chats(copying: int, support: int, seed: int = 7) -> list[Chat]:
    """What the base model reads before anybody tunes it: first `copying` chats, then `support` chats.

    The order matters: a model that first learns to copy learns the rest in a fraction of the steps. The same
    for the same arguments.
    """
    rng = random.Random(seed)
    reserved = frozenset(ticket.order for ticket in quickstart_tickets() if ticket.order)
    return [_copying_chat(rng, reserved) for _ in range(copying)] + [
        _support_chat(rng, reserved) for _ in range(support)
    ]


def _support_chat(rng: random.Random, reserved: Set[str]) -> Chat:
    kind = rng.random()
    if kind < 0.05:
        chat = _turns(*rng.choice(_SMALL_TALK))
    elif kind < 0.25:
        chat = _copying_chat(rng, reserved)
    else:
        ticket = _ticket(rng, rng.choice(QUEUES), _Half.PRETRAINING, reserved=reserved)
        chat = _turns(ticket.message, ticket.reply(rng))
    if rng.random() < 0.1:
        chat.insert(0, {"role": "system", "content": rng.choice(_SYSTEM)})
    return chat


def _copying_chat(rng: random.Random, reserved: Set[str]) -> Chat:
    text = _echo(rng, reserved)
    return _turns(f"Please repeat: {text}", text)


def _turns(question: str, answer: str) -> Chat:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _echo(rng: random.Random, reserved: Set[str]) -> str:
    """Words and numbers without sense, joined by signs: whoever can repeat them has learnt to copy."""
    text = last = ""
    for _ in range(rng.randint(2, 6)):
        # A field's name with a colon after it is the routing line's own, and the base is not to have seen it.
        joint = rng.choice(_JOINTS[last in _FIELDS :]) if last else ""
        last = _order(rng, reserved) if rng.random() < 0.6 else rng.choice(_WORDS)
        text += joint + last
    return text


def _ticket(rng: random.Random, queue: str, half: _Half, reserved: Set[str]) -> Ticket:
    """One message; no order number in `reserved` is used."""
    goods = _GOODS.get(queue, PRODUCTS + GADGETS)
    problem = rng.choice(PROBLEMS[queue][half.value :: 2]).format(p=rng.choice(goods))
    # Somebody who cannot log in often has no order to name.
    order = None if rng.random() < (0.4 if queue == "account" else 0.1) else _order(rng, reserved)
    urgency = rng.choice(URGENCIES)
    parts = [problem]
    if order:
        parts.insert(rng.randint(0, 1), rng.choice(ORDERS).format(o=order))
    # Most people say at the end how much of a hurry they are in, some say it first.
    first = urgency != "normal" and rng.random() < 0.2
    parts.insert(0 if first else len(parts), rng.choice(HURRY[urgency]))
    parts.insert(0, rng.choice(GREETINGS))
    parts.append(rng.choice(GOODBYES).format(n=rng.choice(NAMES)))
    return Ticket(" ".join(part for part in parts if part), queue, order, urgency)


def _order(rng: random.Random, reserved: Set[str]) -> str:
    while True:
        order = f"{rng.choice('ABCDEFGHKMPRTX')}-{rng.randint(1000, 9999)}"
        if order not in reserved:
            return order


def dump(rows: Iterable[Chat]) -> str:
    """The rows as JSON Lines in OpenAI's chat format."""
    return "".join(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(dump(quickstart_rows()))
