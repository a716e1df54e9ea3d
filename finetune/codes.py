"""What `ft explain CODE` says: one entry for every code that the product can raise (a test compares the two)."""

from typing import NamedTuple


class CodeText(NamedTuple):
    """A code's title (a few words) and its explanation (cause, consequence, remedy)."""

    title: str
    text: str


CODES: dict[str, CodeText] = {
    # E1xx recipe
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
    # E2xx data
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
    "E204": CodeText("no rows", "The file is empty or has only blank lines. It needs one JSON object in each line."),
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
    # E3xx eligibility
    # E4xx provider
    # E5xx state
    # E6xx training
    "E600": CodeText(
        "malformed training request",
        "The local trainer reads `request.json` in the run's folder strictly and found a field missing, "
        "unknown or out of range. The file is written by ft itself: the worker and the trainer are likely "
        "of different versions. Install the same version for both, then submit again.",
    ),
    "E601": CodeText(
        "run's folder in use",
        "Another trainer holds the folder of this run, and two would overwrite each other's checkpoints. "
        "It may be the remains of a worker that is just ending. ft tries again by itself; if it stays, "
        "end the other trainer.",
    ),
    "E602": CodeText(
        "unknown built-in base model",
        "Names that begin with `builtin:` are models that ft builds itself, without a network. There is "
        "none of this name; the message lists those there are.",
    ),
    "E603": CodeText(
        "folder is no base model",
        "`base_model` names a folder that is not there, or that lacks the config.json and the "
        "model.safetensors that `save_pretrained` writes. An adapter's folder is no base model: name the "
        "folder of the model it was trained on.",
    ),
    "E604": CodeText(
        "weights are pickles",
        "The folder has its weights as .bin or .pt files only. Loading a pickle can run any code, so ft "
        "reads safetensors only. Load the model with transformers on a machine where you trust it and "
        "call `save_pretrained`, which writes safetensors.",
    ),
    "E605": CodeText(
        "no chat template",
        "The base model's tokenizer does not say how messages become text, and training and serving must "
        "agree on it. Use the instruct version of the model, or put a chat_template.jinja into its "
        "folder.",
    ),
    "E606": CodeText(
        "base model not found",
        "`base_model` is neither a folder here, nor in the cache of downloaded models, nor could the "
        "Hugging Face hub give it: the hub cannot be reached, does not know it, or wants its terms "
        "accepted first. Give the path of a folder, or run `hf download NAME` where there is a network.",
    ),
    "E607": CodeText(
        "base model brings code",
        "Loading this base model would run Python code that comes with it. ft does not, unless the recipe "
        "says `local: {trust_remote_code: true}`. Read the code first, and pin `revision` so that it "
        "cannot change.",
    ),
    "E608": CodeText(
        "base model cannot be loaded",
        "transformers could not load the base model: it does not know this kind, a file is broken or cut "
        "off, or the memory does not suffice. The message carries its words. Check the files, update "
        "transformers, or choose another model.",
    ),
    "E610": CodeText(
        "prepared data broken",
        'The trainer could not read the prepared data, or a line in it is not `{"messages": [...]}`. '
        "Preparation writes these files, so something changed them since. Check the data with `ft data "
        "check` and submit again.",
    ),
    "E611": CodeText(
        "assistant's tokens not found",
        "Only what the assistant says is learned, and in this row its tokens could not be told from the "
        "rest: the chat template refuses the row, or renders an answer differently as the conversation "
        "goes on. Change the row, or give the base model a chat template with `{% generation %}` marks.",
    ),
    "E612": CodeText(
        "nothing to learn",
        "No row has an assistant message with a weight within `training.max_seq_length` tokens. Raise it, "
        "or check the data with `ft data check`.",
    ),
    "E613": CodeText(
        "unknown target module",
        "A name in `lora.target_modules` is no linear layer of this base model. The message lists the "
        "layers there are; `all-linear` takes them all.",
    ),
    "E614": CodeText(
        "local training not installed",
        "Training on this machine needs torch, transformers and peft, which come with the extra `local`: "
        "`pip install 'ft-orchestrator[local]'`.",
    ),
    "E620": CodeText(
        "training diverged",
        "The loss or the gradient became infinite or not a number; the weights were not touched after "
        "that. Lower `training.learning_rate` (a tenth is a good next try), raise "
        "`training.warmup_ratio`, or use `local: {precision: fp32}`.",
    ),
    "E621": CodeText(
        "out of memory",
        "Micro-batches are halved when memory runs out, which changes nothing in the result, but not even "
        "one example fits. Lower `training.max_seq_length` or `lora.r`, use `local: {precision: bf16}`, "
        "or a machine with more memory.",
    ),
    "E622": CodeText(
        "trainer cannot write",
        "A checkpoint or the adapter did not reach the disk: it is full, read-only or gone. Make room and "
        "submit again; training goes on from the last checkpoint.",
    ),
    "E699": CodeText(
        "trainer failed unexpectedly",
        "A fault in ft or in a library under it ended the trainer. Its log in the run's folder has the "
        "details; please report it with that log.",
    ),
    # E7xx names and serving
    "E750": CodeText(
        "adapter does not fit",
        "The adapter was trained on another base model, or its files hold weights that this base has no place for or "
        "that would overwrite the base. It is refused, because loaded all the same it would answer wrongly without "
        "a word. Serve it on the base model named in its adapter_config.json.",
    ),
    "E751": CodeText(
        "no adapter there",
        "The folder has no adapter_config.json, no adapter_model.safetensors, or they cannot be read as a LoRA. "
        "Give the folder that the training wrote, in PEFT's format with safetensors.",
    ),
    "E752": CodeText(
        "name already taken",
        "The name already stands for another model in the server. One name never stands for two models: unload "
        "the first (POST /v1/unload_lora_adapter), or give the second its own name.",
    ),
    "E753": CodeText(
        "adapter not loaded",
        "The adapter asked for was never loaded into the engine, or was unloaded in between. The base model does "
        "not answer in its place. Load it again, or ask for another model.",
    ),
    "E754": CodeText(
        "prompt too long",
        "The messages fill the model's whole context, so no token is left for an answer. Shorten them, or leave "
        "out the oldest turns.",
    ),
    "E755": CodeText(
        "wrong value in a request",
        "A field of the request is missing, has the wrong type or is out of its range. The message names the "
        "field and what it may be.",
    ),
    "E756": CodeText(
        "field not supported",
        "The request has a field that would change the answer and that the embedded server does not carry out "
        "(tools, response_format, logprobs, n above 1 and others). It is refused instead of passed over: leave it "
        "out, or serve the model with a gateway that supports it.",
    ),
    "E757": CodeText(
        "cannot listen",
        "The server cannot take its address: the port is in use, belongs to the system, or the host is not an "
        "address of this machine. Choose another with --port (0 takes a free one) or --host.",
    ),
    "E758": CodeText(
        "model failed",
        "A base model could not be loaded, ran out of memory while answering, or computed no numbers. Check that its "
        "files are complete and that memory is free; broken numbers come from broken weights or too small a "
        "precision.",
    ),
    "E759": CodeText(
        "chat template",
        "The base model has no chat template, or its template refuses the messages, for example because two user "
        "messages follow each other. Serve a chat model, and let user and assistant take turns.",
    ),
    # E8xx workers
    # E9xx command line and ft itself
}
