"""A recipe written back: as stored, as the fields that were set, and as a JSON schema for editors."""

from typing import Any, Final

from finetune.spec.fields import all_fields
from finetune.spec.model import Recipe, Section

SCHEMA_ID: Final = "urn:ft-orchestrator:recipe:1"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Json = dict[str, Any]


def canonical(recipe: Recipe) -> Json:
    """The set fields by our names, as JSON values.

    `Recipe.model_validate` of it is equal to `recipe`, and has the same fields set.
    """
    return recipe.model_dump(mode="json", exclude_unset=True)


def explicit(recipe: Recipe) -> Json:
    """What the user set, by dotted name, without sections: what a target must honour or say that it ignores."""
    out: Json = {}
    for name, known in all_fields().items():
        holder: Any = recipe
        for key in name.split(".")[:-1]:
            holder = getattr(holder, key) if key in holder.model_fields_set else None
            if not isinstance(holder, Section):
                break
        if isinstance(holder, Section) and known.section is None and known.key in holder.model_fields_set:
            out[name] = holder.model_dump(mode="json", include={known.key}, exclude_unset=True)[known.key]
    return out


def default(name: str) -> Any:
    """What holds when neither the field nor a section around it is set, as JSON; None where nothing does."""
    known = all_fields()[name]
    if known.parent and all_fields()[known.parent].default is None:
        return None
    found = known.default
    return list(found) if isinstance(found, tuple) else found


def json_schema() -> Json:
    """The schema of the recipe file, draft 2020-12, closed, with a description for every field."""
    made = _tidy(Recipe.model_json_schema())
    for section, prefix in [(made, ""), *((made["$defs"][name], prefix) for name, prefix in _sections())]:
        for key, told in section["properties"].items():
            told["description"] = all_fields()[prefix + key].description
    validation = made["$defs"]["Validation"]
    validation["oneOf"] = [{"required": ["split"]}, {"required": ["path"]}]
    made["$defs"]["Training"]["not"] = {"required": ["learning_rate", "learning_rate_multiplier"]}
    made["properties"]["target"] = {
        "type": "string",
        "pattern": "^[a-z][a-z0-9_-]{0,31}/\\S+$",
        "description": "provider/base_model in one, split at the first slash; instead of the two fields.",
    }
    made["required"].remove("base_model")
    made["anyOf"] = [{"required": ["base_model"]}, {"required": ["target"]}]
    return {"$schema": _DIALECT, "$id": SCHEMA_ID, "title": "ft recipe", **made}


def _sections() -> list[tuple[str, str]]:
    return [(each.section.__name__, f"{name}.") for name, each in all_fields().items() if each.section is not None]


def _tidy(schema: Any, *, names: bool = False) -> Any:
    """Without pydantic's titles, and without null: an unset field is left out of the file."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    out = {
        key: _tidy(value, names=key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or not (key == "title" or (key == "default" and value is None))
    }
    choices = [] if names else out.get("anyOf", [])
    if len(choices) == 1:
        del out["anyOf"]
        out = {**choices[0], **out}
    return out
