"""Stand-ins that keep what they were asked and what they answered, and the words in which a contract is written."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jsonschema

from finetune.sandbox.service import Refusal, Reply, Request, Route, Sandbox

Schema = dict[str, Any]


def maybe(schema: Schema) -> Schema:
    """This, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def closed(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def against(schema: Schema, value: Any, what: str) -> list[str]:
    """What of the value is not as the schema has it."""
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{what}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


class Held(Sandbox):
    """Over a stand-in: keeps all requests, and what of them and of the answers is not as the contract has it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.sent: list[tuple[str, Request]] = []
        self.violations: list[str] = []

    def broken(self, operation: str, request: Request, reply: Reply, *, refused: bool) -> list[str]:
        """What breaks the contract in a request that was taken, or in an answer or refusal."""
        raise NotImplementedError

    def odd(self, reply: Reply) -> bool:
        """An answer of the stand-in's own making, which no contract has."""
        raise NotImplementedError

    def held(self, routes: Sequence[Route]) -> list[Route]:
        """The same, watched. The `routes` of a subclass call it, so that the stand-in's own can be had as well."""
        return [replace(route, answer=self._watch(route)) for route in routes]

    def asked(self, operation: str) -> list[Request]:
        """The requests of one operation, in order."""
        return [request for each, request in self.sent if each == operation]

    def _watch(self, route: Route) -> Callable[[Request], Reply]:
        def handle(request: Request) -> Reply:
            self.sent.append((route.operation, request))
            try:
                reply = route.answer(request)
            except Refusal as refusal:
                self.violations += self.broken(route.operation, request, refusal.reply, refused=True)
                raise
            if not self.odd(reply):
                self.violations += self.broken(route.operation, request, reply, refused=False)
            return reply

        return handle


class Remembering(Sandbox):
    """Over a stand-in: keeps requests with what they were answered, a refusal too."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.seen: list[tuple[str, Request, Reply]] = []

    def remembered(self, routes: Sequence[Route]) -> list[Route]:
        """The same, watched. The `routes` of a subclass call it, so that the stand-in's own can be had as well."""
        return [replace(route, answer=self._watched(route)) for route in routes]

    def operations(self) -> list[str]:
        """What was asked for so far."""
        return [operation for operation, _, _ in self.seen]

    def bodies(self, operation: str) -> list[Any]:
        """The JSON bodies of these requests."""
        return [json.loads(request.body) for name, request, _ in self.seen if name == operation]

    def _watched(self, route: Route) -> Callable[[Request], Reply]:
        def answer(request: Request) -> Reply:
            try:
                reply = route.answer(request)
            except Refusal as refusal:
                reply = refusal.reply
            self.seen.append((route.operation, request, reply))
            return reply

        return answer
