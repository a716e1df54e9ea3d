"""E2xx: training data."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E201": CodeText(
        "no such data file",
        "dataset.path or validation.path does not lead to a file. Both start at the folder of the recipe, not "
        "at the folder in which you run `ft`.",
    ),
    "E202": CodeText(
        "the data is not a file",
        "The path leads to a folder, a device or a pipe. Name one file of JSON lines.",
    ),
    "E203": CodeText(
        "the data cannot be read",
        "The file is there, and the system does not let `ft` read it, or reading broke off; the message has "
        "the system's reason.",
    ),
    "E204": CodeText(
        "no rows",
        "The file is empty or has only blank lines. It needs one JSON object in each line.",
    ),
    "E205": CodeText(
        "the data is not UTF-8 text",
        "The file, or the line named, is in another encoding, compressed, or another kind of file. Unpack it "
        "or save it as UTF-8.",
    ),
    "E206": CodeText(
        "a line is too long",
        "A line of more than 16 MiB is refused; no model reads a row of that length. Mostly the line feeds "
        "between the rows are missing.",
    ),
    "E207": CodeText(
        "a line is not JSON",
        "Each line is one JSON object on its own: double quotes, no comma at the end, no comments, no NaN. A "
        "JSON list or an object over several lines can be turned into lines with `jq -c`.",
    ),
    "E208": CodeText(
        "a row is not an object",
        "The line is valid JSON, but a list, text or number. A row is an object with `messages`.",
    ),
    "E209": CodeText(
        "an unknown key in a row",
        "The row or a message has a key that is not read. `ft` never drops one silently, because the model "
        "might need what it says; `id`, `metadata` and `source` are the exception. Rows of other layouts "
        "(ShareGPT, Alpaca, prompt and completion, tools) have to be rewritten as `messages`.",
    ),
    "E210": CodeText(
        "a row without messages",
        'Each row is {"messages": [...]} with at least one message, and each message is an object with a role '
        "and a content.",
    ),
    "E211": CodeText(
        "a wrong role",
        "Each message has the role system, user or assistant, in lower case. Messages of tools are not read yet.",
    ),
    "E212": CodeText(
        "a message without text",
        "Each message has a `content` that is text; an answer that is learned is not empty. Content in parts "
        "(images, lists) is not read yet.",
    ),
    "E213": CodeText(
        "a wrong weight",
        "`weight` may stand on messages of the assistant: 1 (the default) means that the answer is learned, 0 "
        "that it is only read.",
    ),
    "E214": CodeText(
        "nothing to learn from a row",
        "The last message must be the assistant's, and at least one of its answers must count (a weight other than 0).",
    ),
    "E215": CodeText(
        "rows that are there more than once",
        "A warning. Copies count as often as they occur. All copies of a row are on the same side of a split, "
        "so they do not spoil the validation.",
    ),
    "E216": CodeText(
        "a split that leaves nothing",
        "validation.split chooses rows by their content, each with that chance, so that a row stays on its "
        "side when the file grows. With few rows a side can come out empty. Add rows, change the split, or "
        "name a file with validation.path.",
    ),
    "E217": CodeText(
        "rows in training and in validation",
        "A model is good at what it was trained on, so shared rows make the measure look better than it is. "
        "A warning; remove them from one of the files.",
    ),
    "E218": CodeText(
        "a byte order mark or carriage returns",
        "A warning. The file was written as on Windows. The marks are not part of the rows, and the digest is "
        "the same without them.",
    ),
    "E219": CodeText(
        "keys that are left out",
        "A warning. `id`, `metadata` and `source` of a row say nothing to a model. They are neither trained "
        "on nor sent to a provider, and do not change the digest.",
    ),
    "E220": CodeText(
        "more errors than are shown",
        "Only the first 20 errors of a file are shown; the others are counted. They are often of the same kind.",
    ),
    "E221": CodeText(
        "a key twice in one object",
        "JSON's readers do not agree on which of the two counts, so neither is taken. Remove one.",
    ),
}
