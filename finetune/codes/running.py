"""E3xx to E5xx and E7xx to E9xx: targets, providers, the store, names, workers, the command line."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E301": CodeText(
        "a field that the target does nothing about",
        "The recipe sets something that this provider ignores, so the result would not be what the recipe "
        "says. Remove the field, choose another provider, or accept it by name with `allow_ignored: [FIELD]`.",
    ),
    "E302": CodeText(
        "a provider that is not installed",
        "`provider:` names something that no installed package offers. The message lists what there is. A "
        "provider comes from an entry point of the group `ft.providers`.",
    ),
    "E303": CodeText(
        "a method that the target cannot do",
        "Each provider trains by some methods only. The local one does supervised fine-tuning (`method: sft`).",
    ),
    "E304": CodeText(
        "a base model that the target does not have",
        "Built-in base models are named in the message. Any folder with a model in it and any id on the "
        "Hugging Face hub can stand in their place.",
    ),
    "E305": CodeText(
        "a folder without a model",
        "`base_model` looks like a path, and there is no `config.json` in it. A model folder holds "
        "config.json, the weights as .safetensors and the files of the tokenizer.",
    ),
    "E390": CodeText(
        "a catalogue file that cannot be read",
        "The folder has no sheets, or a file in it is not UTF-8, not YAML, not a mapping, too large or nested "
        "too deep. Each provider has one file, named after it and ending in .yaml. docs/catalogue.md has the format.",
    ),
    "E391": CodeText(
        "a key of the catalogue that is unknown or missing",
        "No key is dropped silently, and some keys have no default. The message names the nearest key there is.",
    ),
    "E392": CodeText(
        "a value of the catalogue that does not fit",
        "The message says what the field takes. Money stands in quotes, days are written 2027-01-06, sizes such "
        "as 512 MB. What is not known is left out, not written empty.",
    ),
    "E393": CodeText(
        "a claim without a source",
        "Every limit, date and price names the document it comes from, by a key of `sources`. A claim that nobody "
        "can look up is a guess, so it is refused. Add the document, or remove the claim.",
    ),
    "E394": CodeText(
        "said twice in the catalogue",
        "A key, a model's name or an alias is there twice, a file is not named after its provider, or a sheet of your "
        "own gives a source's key to another document. Nobody could tell which of the two holds. Make one of them.",
    ),
    "E395": CodeText(
        "scores that cannot be imported",
        "A table of scores is a CSV file whose first line names its columns. Each model is there once, with a number. "
        "Name the columns with --model-column and --score-column.",
    ),
    "E401": CodeText(
        "the provider ended the job without a reason",
        "It says failed and nothing more. Its own console often knows more. `ft submit --force` tries again.",
    ),
    "E402": CodeText(
        "the provider does not know the job",
        "It was deleted there, or the database was restored from a backup that is older or newer than the "
        "provider. `ft submit --force` trains again.",
    ),
    "E403": CodeText(
        "the provider cannot be reached, or is in trouble",
        "ft tries again by itself, with growing pauses. After a create it first looks up whether it was carried out "
        "all the same. A job that may already cost money is never given up for this.",
    ),
    "E404": CodeText(
        "a provider that this worker does not have",
        "The job was submitted where the provider is installed, and a worker without it took the job up. Install the "
        "provider's package where the workers run. The job waits, and loses nothing.",
    ),
    "E501": CodeText(
        "a folder or database that cannot be written",
        "Jobs, prepared data, runs and adapters are kept in FT_HOME (default: the data folder of the user). "
        "Give write access to it, or set FT_HOME to another folder.",
    ),
    "E502": CodeText(
        "the database server does not answer",
        "FT_DATABASE_URL names a server that refuses, or is not there. Jobs are safe in it; workers wait for "
        "it and carry on by themselves.",
    ),
    "E503": CodeText(
        "a damaged database",
        "The file is not a database any more, or part of it is missing. Move it aside and restore a backup; "
        "`sqlite3 FILE .recover` saves what can be read. Adapters lie beside it, in FT_HOME/adapters, and are "
        "not affected.",
    ),
    "E504": CodeText(
        "a full disk",
        "Nothing was half written: a change is in the database whole or not at all. Make room and repeat the "
        "command; workers carry on by themselves.",
    ),
    "E505": CodeText(
        "a busy database",
        "Another process held the database for longer than 15 seconds. Repeat the command. If it stays so, a "
        "process may hang, or the file may lie on a network drive, where SQLite does not work: use PostgreSQL "
        "there (FT_DATABASE_URL).",
    ),
    "E506": CodeText(
        "a database used after a fork",
        "SQLite forgets its locks in a forked child, and rows vanish without a word. ft refuses. Workers run "
        "with threads; `python -m workers` does that.",
    ),
    "E507": CodeText(
        "FT_DATABASE_URL is not an address",
        "Write postgresql+psycopg://user@host/name (the extra `postgres` brings the driver), or unset it for "
        "SQLite in FT_HOME.",
    ),
    "E508": CodeText(
        "a statement that the database refused",
        "Most often the database belongs to another version of ft. If `ft doctor` finds nothing, this is a "
        "fault in ft: please report it.",
    ),
    "E509": CodeText(
        "a lease that was lost",
        "A worker was away for longer than its lease, and another one has taken its work over. The first "
        "writes nothing any more. Nothing is lost and nothing is done twice.",
    ),
    "E510": CodeText(
        "a file that the system refused",
        "The operating system said no to reading or writing a file: permissions, a full disk, a path through "
        "something that is no folder.",
    ),
    "E511": CodeText(
        "a process that checked the data was killed",
        "Large data is checked in several processes. One of them was ended from outside; mostly the system does "
        "that when memory runs out. Make memory free and repeat the command.",
    ),
    "E512": CodeText(
        "the bucket of adapters does not answer",
        "Adapters are kept in the bucket that FT_ARTIFACTS names, and a version trained elsewhere is fetched from "
        "there. The message says what the bucket answered: `ft doctor` asks it again. A training is never lost by it: "
        "its adapter stays on the machine that trained it, where `ft models sync` uploads it later.",
    ),
    "E513": CodeText(
        "another adapter is at that address",
        "The folder of an adapter in the bucket is named by the digest of its content, and nothing there is ever "
        "overwritten. Its manifest `ft-adapter.json` names another digest: something else writes to that prefix, or "
        "has damaged it. Give this installation a prefix of its own, or remove the folder and run `ft models sync`.",
    ),
    "E701": CodeText(
        "no such job, or several",
        "A job is named by its id or by the beginning of it. `ft status` lists the newest; `ft status --limit "
        "100` goes further back.",
    ),
    "E702": CodeText(
        "no such model",
        "A model is `name@v3` (a version), `name@production` (an alias), or `name`, which stands for its "
        "production alias. ft never answers with another model in its place.",
    ),
    "E703": CodeText(
        "a name that cannot be an alias",
        "Lower case letters, digits, `_`, `.` and `-`, and not of the form v1, which names versions.",
    ),
    "E704": CodeText(
        "no such error code",
        "Codes are E and three digits. `ft explain` lists all of them.",
    ),
    "E705": CodeText(
        "a name that two models have",
        "A tuned model in production and a base model share the name. ft does not guess which was meant: name the "
        "version, such as bot@v1, and give the next tuned model another name.",
    ),
    "E707": CodeText(
        "nothing of that name in the catalogue",
        "Neither a provider nor a model, nor imported scores, are called so. `ft catalogue show` lists providers, `ft "
        "catalogue scores` the scores. What is missing can be added in a sheet of your own (docs/catalogue.md).",
    ),
    "E801": CodeText(
        "a second `ft up`",
        "One `ft up` serves one FT_HOME. The message says which process and address. Any number of `ft "
        "worker` may run beside it.",
    ),
    "E802": CodeText(
        "a broker that does not answer",
        "FT_BROKER_URL names a Redis that refuses, or is not there. Nothing is lost: jobs are in the "
        "database, and the workers carry on when it is back. Unset the variable to do without a broker.",
    ),
    "E803": CodeText(
        "a worker that ended by itself",
        "`ft submit --follow` started a worker and it failed. The message repeats its last words; the log has "
        "all of them. The job waits and loses nothing.",
    ),
    "E810": CodeText(
        "a wait that ended before the job",
        "`ft wait --timeout` is over. The job goes on; `ft watch JOB` shows how far it is.",
    ),
    "E811": CodeText(
        "a job that cannot be tried again",
        "`ft retry` starts a new job with recipe and data of one that has failed or was cancelled. One that goes on "
        "has nothing to try again, and one that has succeeded is trained again only by `ft submit --force`.",
    ),
    "E812": CodeText(
        "a job that cannot be paused",
        "The provider has no call for it. A job that waits in ft's own queue can always be held back, and a local "
        "training saves a checkpoint from which it goes on.",
    ),
    "E901": CodeText(
        "a command that cannot be carried out so",
        "The message says what to write instead.",
    ),
    "E902": CodeText(
        "an environment variable that cannot be used",
        "FT_PORT is a whole number from 0 (any free port) to 65535, FT_BROKER_URL the address of a Redis, FT_HOME a "
        "folder. The message says which one it is and what to write.",
    ),
    "E903": CodeText(
        "no such queue",
        "Workers serve `remote` (steps of jobs), `gpu` (trainings on this machine), or `all`.",
    ),
    "E904": CodeText(
        "an open address without a key",
        "Whoever reaches the server can use its models and have it load adapters. Set FT_API_KEY (callers "
        "send it as a bearer token), or listen on 127.0.0.1.",
    ),
    "E990": CodeText(
        "a transition that is not in the table",
        "A fault in ft: a job was about to go from one state to another that cannot follow it. Nothing was written.",
    ),
    "E991": CodeText(
        "a step that failed unexpectedly",
        "A fault in ft or in a provider adapter. The job is kept and the step is tried again; after ten times "
        "a job that costs nothing is given up. Please report it with the output of `ft logs JOB`.",
    ),
    "E999": CodeText(
        "a fault in ft",
        "Something happened that nobody thought of. The traceback is in the file that the message names. Your "
        "jobs are safe in the database. Please report it.",
    ),
}
