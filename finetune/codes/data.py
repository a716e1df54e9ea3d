"""E2xx: training data."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E201": CodeText(
        "no such data",
        "dataset.path or validation.path leads to nothing: no file, object, bucket or dataset. Relative "
        "paths start at the folder of the recipe, not at the folder in which you run `ft`.",
    ),
    "E202": CodeText(
        "the data is not a file",
        "The path leads to a device, a pipe or a socket, or is an address that is not read: plain http, "
        "ftp, one with a password in it. Name a file, a folder or a pattern, or hf:, s3://, gs://, "
        "https://.",
    ),
    "E203": CodeText(
        "the data cannot be read",
        "The file is there, and the system does not let `ft` read it, or reading broke off; the message has "
        "the system's reason.",
    ),
    "E204": CodeText(
        "no rows",
        "There is nothing but blank lines, an empty list, or a header without rows. Write one JSON object "
        "a line, or see `ft data formats`.",
    ),
    "E205": CodeText(
        "the data is not text, or of another kind",
        "The file, or the line named, is in another encoding than UTF-8, holds NUL bytes, or is another "
        "kind of file altogether. Save it as UTF-8.",
    ),
    "E206": CodeText(
        "a row is too long",
        "A row of more than 16 MiB is refused; no model reads one of that length. Mostly the line feeds "
        "between the rows are missing.",
    ),
    "E207": CodeText(
        "a row is not JSON",
        "Each row is one JSON object on its own: double quotes, no comma at the end, no comments, no NaN, "
        "nothing nested a thousand deep.",
    ),
    "E208": CodeText(
        "a row is not an object",
        "The line is valid JSON, but a list, text or number. A row is an object, `{...}`.",
    ),
    "E209": CodeText(
        "an unknown key in a row",
        "The row, or something in it, has a key that its layout does not have. `ft` never drops one silently, "
        "because the model might need what it says; keys such as `id`, `metadata` and `source` are the "
        "exception (E219). For odd names of known keys there is `dataset.field_map`.",
    ),
    "E210": CodeText(
        "a row without messages",
        "The list of messages is missing, empty or no list. `ft data formats` shows a row of each layout.",
    ),
    "E211": CodeText(
        "a wrong role",
        "Each message says who speaks, in the words of its layout: with OpenAI's these are system, user, "
        "assistant and tool.",
    ),
    "E212": CodeText(
        "a message without text",
        "Each message says something, in text or in the parts that its role may have; an answer that is "
        "learned is not empty. Half of a surrogate pair, an escape from \\ud800 to \\udfff on its own, is no "
        "character and cannot be written.",
    ),
    "E213": CodeText(
        "a wrong weight",
        "`weight` may stand on messages of the assistant: 1 (the default) means that the answer is learned, 0 "
        "that it is only read.",
    ),
    "E214": CodeText(
        "nothing to learn from a row",
        "What is learned is an answer of the assistant: it stands last, says something, and has no weight of "
        "0. In a preference or a label the prompt ends before it.",
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
        "A model is good at what it was trained on, so shared rows make the measure look better than it is. A "
        "warning, but for one file named on both sides; remove the rows from one of the two.",
    ),
    "E218": CodeText(
        "a byte order mark or carriage returns",
        "A warning. The file was written as on Windows. The marks are not part of the rows, and the digest is "
        "the same without them.",
    ),
    "E219": CodeText(
        "keys that are left out",
        "A warning. Keys such as `id`, `metadata` and `source` of a row say nothing to a model. They are "
        "neither trained on nor sent to a provider, and do not change the digest.",
    ),
    "E220": CodeText(
        "more kinds of faults than are shown",
        "Faults of one kind are told once, with their lines; of a file at most 100 kinds are told. `ft "
        "validate --all` tells every fault on its own.",
    ),
    "E221": CodeText(
        "a key twice in one object",
        "JSON's readers do not agree on which of the two counts, so neither is taken. Remove one.",
    ),
    "E222": CodeText(
        "content that is not what the name says",
        "A warning. The content decides: a gzip file named .jsonl is unpacked, JSON named .csv is read as "
        "JSON, and rows may stand in a list under data, rows, examples or train. The message says how it "
        "is read.",
    ),
    "E223": CodeText(
        "a compressed or columnar file that is broken",
        "The file is cut off, or is not in the compression that its name says. Rows before the break may "
        "have been read; write or download it again.",
    ),
    "E224": CodeText(
        "a file that changed while it was read",
        "Its size or time at the end are not those of the beginning, so nobody knows which rows were "
        "read. Wait until it is written, and repeat.",
    ),
    "E225": CodeText(
        "a JSON file that is broken",
        "A list of rows, or an object over several lines, is not closed or has something that is no JSON. "
        "What comes after that place cannot be read.",
    ),
    "E226": CodeText(
        "a CSV header that cannot be used",
        "The first line names the columns, each once and none of them empty.",
    ),
    "E227": CodeText(
        "a CSV row that does not fit the header",
        "The row has more or fewer cells than the header has columns. Mostly a quote is missing, or a "
        "text with the delimiter in it has none.",
    ),
    "E228": CodeText(
        "a column that has no JSON",
        "Parquet holds types that JSON does not have, such as bytes or decimals. They are not guessed; "
        "write the column as text or numbers.",
    ),
    "E229": CodeText(
        "a pattern that nothing matches",
        "No file is of that name, or the folder holds no file of a kind that is read. Hidden files are left out.",
    ),
    "E230": CodeText(
        "files that are left out",
        "A warning. A folder or pattern holds files that are no data, by their suffix. The others are read.",
    ),
    "E231": CodeText(
        "data elsewhere that was not looked at",
        "A warning. `ft validate` reads what is on this machine; with --fetch it reads the rest too. `ft "
        "submit` always does.",
    ),
    "E232": CodeText(
        "a place that cannot be reached",
        "The server does not answer, or broke off several times. The same command may succeed later.",
    ),
    "E233": CodeText(
        "a place that refuses",
        "These credentials may not read it, it is gated, or it is in another region. Credentials are "
        "those that the library of the place finds by itself.",
    ),
    "E234": CodeText(
        "a library that is not installed",
        "Parquet, zstd, the hub and object stores are read by libraries that come by an extra: pip "
        "install 'ft-orchestrator[data]'.",
    ),
    "E235": CodeText(
        "a dataset of which a part must be named",
        "The dataset on the hub has several configurations or splits. Name them: hf:owner/name?config=c&split=train.",
    ),
    "E236": CodeText(
        "a row of another layout",
        "All rows of a file have one layout, found out from its first rows or named by dataset.format. This "
        "row looks like another one. Convert with `ft data convert`, or name the layout.",
    ),
    "E237": CodeText(
        "a wrong or missing field",
        "A field that the layout needs is missing, or holds another type than it may. `ft data formats` shows "
        "a row of each layout.",
    ),
    "E238": CodeText(
        "a wrong tool or tool call",
        "Tools and calls have OpenAI's form: a call has an `id`, a function's name, and its arguments as "
        "text; a tool's message repeats that id as `tool_call_id`, after the call.",
    ),
    "E239": CodeText(
        "not an answer, or two that are the same",
        "An answer is the assistant's: where a layout has one message for it, exactly one. With a prompt in the row, "
        "the answers do not repeat it. In a preference the two answers differ, and of Gemini's scores one is 1, one 0.",
    ),
    "E240": CodeText(
        "personal data or a secret in a row",
        "A warning, and an error under `privacy: strict`. The message says what was found, never the value. "
        "`ft data redact` writes a copy with placeholders. Names, addresses and dates of birth are not found "
        "at all.",
    ),
    "E241": CodeText(
        "personal data cannot be looked for",
        "The libraries that check phone numbers, cards, IBANs and national ids come by an extra: pip install "
        "'ft-orchestrator[privacy]'. Without them nothing is looked for, and `privacy: strict` refuses to go "
        "on.",
    ),
    "E242": CodeText(
        "a tool call that no program can read",
        "A warning. The arguments of a call are no JSON object, or the tool is not one that the row lists. "
        "The model would learn to make such calls.",
    ),
    "E243": CodeText(
        "control characters",
        "A warning. The texts hold characters such as NUL, backspace or escape, mostly left over from another "
        "program. The model learns to write them.",
    ),
    "E244": CodeText(
        "role names of two layouts in one row",
        "A warning. One speaker goes by two names, such as `human` and `user`, which happens when data of "
        "several tools is put together. Both are read as the same role.",
    ),
    "E245": CodeText(
        "rows that teach one thing only",
        "A warning. More than half of the rows have the same answer, or all labels are the same. The model "
        "learns to say that whatever is asked.",
    ),
    "E246": CodeText(
        "rows that are too long",
        "A warning. Rows of more tokens than training.max_seq_length are cut at their end, so that their last "
        "answer is not learned whole. Where the target's tokenizer is not on this machine, the length is a "
        "range, and `may be` says so.",
    ),
    "E247": CodeText(
        "something would be lost",
        "The target's layout has no place for something in the rows, and nothing is dropped silently. Remove "
        "it from the rows, choose another target, or write a copy that does without: `ft data convert "
        "--lossy`.",
    ),
    "E248": CodeText(
        "a limit of the target",
        "The target does not take such a row, so many rows, or so large a file. The message names the page "
        "that publishes the limit; docs/catalogue.md lists all of them.",
    ),
    "E249": CodeText(
        "rows of another kind",
        "sft learns from chats, dpo from preferences: pairs of a better and a worse answer. A file of one "
        "kind cannot be read as the other.",
    ),
    "E250": CodeText(
        "rows that are nearly the same",
        "A warning. Two texts share at least nine tenths of their three-word sequences; case, white space and "
        "system messages are put aside. They teach the same again, and a near copy in validation makes the "
        "measure look better than it is. Keep one of each, or keep groups on one side with `validation.group_by`.",
    ),
    "E251": CodeText(
        "near duplicates not looked for",
        "The search needs numpy and rensa. Install them with `pip install 'ft-orchestrator[data]'`; everything else "
        "is checked without them.",
    ),
    "E253": CodeText(
        "a name in field_map that the rows do not have",
        "dataset.field_map has the layout's names on the left and the file's own on the right, dotted where "
        "one stands in another: {messages: dialog, messages.role: dialog.who}. None of the first rows has the "
        "key on the right.",
    ),
    "E254": CodeText(
        "a row without its group",
        "validation.group_by names a key whose value keeps rows on one side of the split. This row does not have it.",
    ),
    "E255": CodeText(
        "mangled characters",
        "A warning. Texts hold `Ã¼` or `â€™` where `ü` or an apostrophe is meant, or the sign for an unreadable "
        "character: they were read in the wrong encoding before. The model learns to write them so.",
    ),
    "E256": CodeText(
        "a row whose tokens are not counted",
        "A warning. The chat template of the base model refuses the row, or holds what cannot be counted. `ft "
        "data preview` shows it.",
    ),
    "E257": CodeText(
        "rows that look like no layout",
        "None of the first rows has the keys of a layout that is read. `ft data formats` shows a row of each. Name the "
        "layout with dataset.format; if only names are odd, dataset.field_map has the layout's on the left and the "
        "file's on the right: {prompt: question, completion: reply}.",
    ),
}
