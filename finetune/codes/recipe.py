"""E1xx: the recipe cannot be read, or does not say a valid thing."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E101": CodeText(
        "no such recipe file",
        "The path does not lead to a file. Paths are taken from the folder in which you run `ft`. Check the "
        "spelling; when a file of a similar name lies beside it, the message names it. `ft init` writes a "
        "recipe to start from.",
    ),
    "E102": CodeText(
        "the recipe is not a file",
        "The path leads to a folder or a device. A recipe is one YAML file; name that file.",
    ),
    "E103": CodeText(
        "the recipe cannot be read",
        "The file is there, and the system does not let `ft` read it; the message has the system's reason. "
        "Check the permissions of the file and of the folders above it.",
    ),
    "E104": CodeText(
        "the recipe is not plain text",
        "The file is in another encoding than UTF-8, or holds a character that no text has. It may be another "
        "kind of file. Save it as UTF-8, or remove the character at the place named.",
    ),
    "E105": CodeText(
        "the recipe is too large",
        "A recipe has some dozens of lines. A file of more than 1 MB, 10,000 values or 32 levels is refused, "
        "also when it only grows so through aliases, before it can fill the memory. Training data belongs "
        "into a file of its own, named under `dataset.path`.",
    ),
    "E106": CodeText(
        "the recipe is empty",
        "There is nothing in the file but blanks and comments. `ft init` writes a recipe to start from.",
    ),
    "E107": CodeText(
        "not valid YAML",
        "The text breaks the rules of YAML at the place named: mostly a missing blank after a colon, a value "
        "that needs quotes, an open bracket or a wrong indentation. Nothing after that place can be read, so "
        "mend it and check again.",
    ),
    "E108": CodeText(
        "a tab in the indentation",
        "YAML takes only blanks for indentation, because a tab is as wide as each editor likes. Replace the "
        "tab with blanks.",
    ),
    "E109": CodeText(
        "more than one document",
        "A line `---` begins a second document. One file is one recipe, and one recipe is one job. Put the "
        "second into a file of its own.",
    ),
    "E110": CodeText(
        "the recipe is not a mapping",
        "At its top a recipe has lines of the form `field: value`. The file is a list or a single value "
        "instead; often a blank is missing after a colon.",
    ),
    "E111": CodeText(
        "a key is there twice",
        "The same key stands twice in one section, so one of the two values would be lost. Remove one.",
    ),
    "E112": CodeText(
        "a key that is not text",
        "Keys are names of fields. A number, true, an empty key or a list cannot be one; inside "
        "`provider_options` put quotes around it.",
    ),
    "E113": CodeText(
        "a YAML feature that is not read",
        "Tags that make objects and merge keys (`<<`) are not read: the first are a danger, the second hide "
        "which fields are set. Plain anchors and aliases (`&a`, `*a`) are fine.",
    ),
    "E114": CodeText(
        "not a finite number",
        "Infinity, not-a-number, and numbers too long for any field are refused. Write an ordinary number.",
    ),
    "E115": CodeText(
        "half of a character",
        "An escape from \\ud800 to \\udfff stands for a character only in pairs, and YAML does not pair them. "
        "Write the character itself.",
    ),
    "E120": CodeText(
        "unknown field",
        "The recipe has no such field at that place. `ft` never drops a key silently, because a typing error "
        "would then train another model than you asked for. The fix names the field that was probably meant.",
    ),
    "E121": CodeText(
        "a field is missing",
        "A recipe needs version, name, base_model (or target) and dataset.path; a gate needs its metric. All "
        "others have defaults.",
    ),
    "E122": CodeText(
        "a value of the wrong type",
        'The field takes another kind of value. Nothing is converted silently: "3" in quotes is text and no '
        "number, and 3.0 is no whole number. The fix shows how to write it.",
    ),
    "E123": CodeText(
        "a value out of range",
        "The number, length or duration is outside of what the field takes; the message has the bounds.",
    ),
    "E124": CodeText(
        "not one of the choices",
        "The field takes one of a few words; the message lists them. The words off, on, yes and no are text "
        "here and need no quotes.",
    ),
    "E125": CodeText(
        "a value of the wrong form",
        "The text has another form than the field takes: names have no blanks and slashes, amounts have a "
        "currency (25 USD), durations have units (6h), sizes too (24GB).",
    ),
    "E126": CodeText(
        "a field without a value",
        "There is nothing after the colon. An empty field is not the same as an unset one; remove the line, "
        "or comment it out, to take the default.",
    ),
    "E127": CodeText(
        "fields that contradict each other",
        "Two fields say different things of the same matter: learning_rate and learning_rate_multiplier, "
        "validation.split and validation.path, or target and provider or base_model. Keep one.",
    ),
    "E128": CodeText(
        "two names for one field",
        "A field is set under its own name and under another tool's, or under two of those. Keep one.",
    ),
    "E129": CodeText(
        "another tool's name is taken for ours",
        "A warning. Names that Axolotl, LLaMA-Factory, TRL, Together and OpenAI have for our fields are "
        "accepted; the message says which field it was taken for. Our name is the one that later messages "
        "show.",
    ),
    "E130": CodeText(
        "another tool's key without a field here",
        "The key is known from another tool, and no field here means the same. The message says what to write "
        "instead, or why it is not needed.",
    ),
    "E132": CodeText(
        "a secret in the recipe",
        "A key or value looks like an API key, token or password. Recipes are kept in the database, shown and "
        "shared, so secrets are refused there. Remove it, make it invalid if others may have seen it, and set "
        "it in the environment.",
    ),
    "E133": CodeText(
        "a malformed --set",
        "It has the form field=value, with the field's full dotted name: `--set training.epochs=1`. Quote it "
        "in the shell when the value has blanks or brackets.",
    ),
}
