"""What goes over the wire to Amazon Bedrock, held against the description that Amazon's own package carries.

Bodies and answers are compared member by member: names, types, lengths, patterns, words. Of S3 only the names of the
parameters are; its XML is read by the package itself, which the tests of the stand-in use.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

from botocore.session import get_session

from finetune.sandbox.service import Reply, Request

#: The stand-in's operations, and Amazon's.
OPERATIONS: Final = {
    "create": "CreateModelCustomizationJob",
    "list": "ListModelCustomizationJobs",
    "retrieve": "GetModelCustomizationJob",
    "cancel": "StopModelCustomizationJob",
    "deploy": "CreateCustomModelDeployment",
    "deployments": "ListCustomModelDeployments",
    "deployment": "GetCustomModelDeployment",
    "undeploy": "DeleteCustomModelDeployment",
}
STORAGE: Final = frozenset({"files", "upload", "download", "delete_file"})


@cache
def service() -> Any:
    """Amazon's description."""
    return get_session().get_service_model("bedrock")


def asked(operation: str, request: Request) -> list[str]:
    """Where a request is not as the description has it, each with its place."""
    if operation in STORAGE:
        return []
    described = service().operation_model(OPERATIONS[operation])
    members = described.input_shape.members
    found = [] if request.method == described.http["method"] else [f"method {request.method}"]
    pattern = re.sub(r"\{\w+\}", "([^/]+)", described.http["requestUri"])
    if (match := re.fullmatch(pattern, request.path)) is None:
        return [*found, f"path {request.path}"]
    in_path = [name for name, each in members.items() if each.serialization.get("location") == "uri"]
    for name, value in zip(in_path, match.groups(), strict=True):
        found += _faults(unquote(value), members[name], f"path.{name}")
    in_query = {
        each.serialization.get("name", name): each
        for name, each in members.items()
        if each.serialization.get("location") == "querystring"
    }
    for name, values in request.query.items():
        if name not in in_query:
            found.append(f"parameter {name}")
            continue
        number = in_query[name].type_name == "integer"
        found += _faults(int(values[-1]) if number else values[-1], in_query[name], f"query.{name}")
    in_body = {name: each for name, each in members.items() if not each.serialization.get("location")}
    body = json.loads(request.body) if request.body else {}
    required = [name for name in described.input_shape.required_members if name in in_body]
    return [*found, *_members(body, in_body, required, "body")]


def answered(operation: str, reply: Reply) -> list[str]:
    """Where an answer is not as the description has it, each with its place."""
    if operation in STORAGE:
        return []
    described = service().operation_model(OPERATIONS[operation])
    if reply.status >= 400:
        return _of_error(described, reply)
    found = [] if reply.status == described.http["responseCode"] else [f"status {reply.status}"]
    return [*found, *_faults(reply.body, described.output_shape, "answer")]


def _of_error(described: Any, reply: Reply) -> list[str]:
    code = reply.headers.get("x-amzn-ErrorType", "")
    known = {shape.name: shape for shape in described.error_shapes}
    if code not in known:
        return [f"{code} is no error of {described.name}"]
    status = known[code].metadata["error"]["httpStatusCode"]
    found = [] if reply.status == status else [f"{code} comes with {status}, not {reply.status}"]
    return [*found, *_faults(reply.body, known[code], "error")]


def _faults(value: Any, shape: Any, path: str) -> list[str]:
    return list(_of_kind(value, shape, path))


def _of_kind(value: Any, shape: Any, path: str) -> Iterator[str]:
    yield from _KINDS[shape.type_name](value, shape, path)


def _structure(value: Any, shape: Any, path: str) -> Iterator[str]:
    yield from _members(value, shape.members, shape.required_members, path)
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"{path}: not exactly one member"


def _list(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: no list"
        return
    yield from _sized(len(value), shape, path)
    for place, each in enumerate(value):
        yield from _of_kind(each, shape.member, f"{path}[{place}]")


def _map(value: Any, shape: Any, path: str) -> Iterator[str]:
    for key, each in value.items():
        yield from _of_kind(key, shape.key, f"{path}.{key}")
        yield from _of_kind(each, shape.value, f"{path}.{key}")


def _whole(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield f"{path}: no whole number"
    else:
        yield from _sized(value, shape, path)


def _number(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield f"{path}: no number"


def _flag(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{path}: neither true nor false"


def _time(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is None:
        yield f"{path}: no time"


def _members(value: Any, members: Any, required: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: no object"
        return
    yield from (f"{path}.{name}: unknown" for name in value.keys() - members.keys())
    yield from (f"{path}.{name}: missing" for name in required if name not in value)
    for name in value.keys() & members.keys():
        yield from _of_kind(value[name], members[name], f"{path}.{name}")


def _text(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: no text"
        return
    yield from _sized(len(value), shape, path)
    if shape.enum and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        yield f"{path}: {value!r} is not as {pattern}"


def _sized(size: int, shape: Any, path: str) -> Iterator[str]:
    if size < shape.metadata.get("min", size) or size > shape.metadata.get("max", size):
        yield f"{path}: {size} is out of range"


_KINDS: Final = {
    **{"structure": _structure, "list": _list, "map": _map, "string": _text, "boolean": _flag, "timestamp": _time},
    **{"integer": _whole, "long": _whole, "float": _number, "double": _number},
}
