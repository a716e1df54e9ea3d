"""E75x: the embedded server."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E750": CodeText(
        "adapter does not fit",
        "The adapter was trained on another base model, or its files hold weights that this base has no place for or "
        "that would overwrite the base. It is refused, because loaded all the same it would answer wrongly without "
        "a word. Serve it on the base model named in its adapter_config.json.",
    ),
    "E751": CodeText(
        "no adapter there",
        "The folder has no adapter_config.json, no adapter_model.safetensors, or they cannot be read as a LoRA. "
        "When the adapter is a registered model's, its folder was moved or removed: restore it, or train it again with "
        "`ft submit RECIPE --force`. Else give the folder that the training wrote, in PEFT's format with safetensors.",
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
}
