"""E82x: gateways."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E820": CodeText(
        "gateway does not answer",
        "The gateway cannot be reached, is busy, or failed while it worked on the call. Nothing is known to have been "
        "changed, and the call is made again later. See that the gateway runs and that its address is right; its own "
        "log says more.",
    ),
    "E821": CodeText(
        "gateway refuses",
        "The gateway was reached and said no, or gave an answer that none of its versions gives. Its own words stand "
        "in the message. With status 401 or 403 the key is missing or not accepted; the variable that holds it is "
        "named.",
    ),
    "E822": CodeText(
        "LiteLLM's file of models",
        "The file that ft writes for the LiteLLM proxy (FT_LITELLM_FILE) cannot be read or written, or what it would "
        "say is not valid: another hand has changed it, an id stands in it twice, a provider is none that LiteLLM "
        "knows. The proxy was not told to reload, because a broken file ends it. Mend or remove what is named.",
    ),
    "E823": CodeText(
        "LiteLLM did not take the change",
        "The change was written and the proxy told to reload, but it does not list what was written. The file is as "
        "it was before, and so is the proxy. Most often the proxy's configuration does not include the file "
        "(`include:`), FT_LITELLM_PID names another process, or the proxy runs without gunicorn.",
    ),
    "E824": CodeText(
        "entries in LiteLLM",
        "The proxy has a model, an alias or a fallback under this public name or id that is not of ft, or one of ft "
        "with another content; or the deployment that is to get calls is not registered there. LiteLLM would divide "
        "the calls of the name between all that carry it, or answer with another model in its place. ft overwrites "
        "nothing that it has not made: remove the other entry, or give it another name.",
    ),
    "E825": CodeText(
        "gateway not set up",
        "A variable that the gateway needs is not set, or its value cannot be used. The message names it; "
        "docs/gateways.md lists the variables of every gateway.",
    ),
    "E826": CodeText(
        "adapter cannot be served there",
        "The adapter has something that this server does not load, or would load and then answer wrongly: a rank above "
        "its limit, DoRA, whole modules beside the LoRA, trained biases, an architecture it has no code for, or files "
        "that are missing. Nothing was sent. Raise the server's limit, train with other settings, or serve it with "
        "another gateway; docs/gateways.md says which loads what.",
    ),
    "E827": CodeText(
        "name stands for something else",
        "The gateway already has a model of this name, made of other files or another base. Names hold the digest of "
        "their content, so this is none of ft's doing, or a folder was moved. It is not overwritten: servers go on "
        "answering from the old weights when that is done. Remove it there, then register again.",
    ),
    "E828": CodeText(
        "server does not fit",
        "The server runs, but not so that this adapter could be served: it has another base model (most servers load "
        "the adapter all the same, and answer nonsense), takes no adapters at run time, or has only one model and "
        "ignores the name that it is asked for. The message says what to start it with.",
    ),
    "E829": CodeText(
        "done, the gateway says, but it is not",
        "The gateway answered that it had loaded or removed the model, and its own list of models says otherwise. "
        "What it says afterwards counts. Its log tells why; a restart of the server forgets what is stuck, and "
        "`ft` registers again what belongs there.",
    ),
}
