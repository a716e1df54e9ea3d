"""E306 to E321, E405 to E416, E706, E708, E906: hosted providers, their dates and bills, and the sandbox."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E306": CodeText(
        "a base model that the provider does not tune",
        "The catalogue has no such model for this provider; the message names those that it has. Providers add models: "
        "docs/catalogue.md says how a sheet is extended.",
    ),
    "E307": CodeText(
        "a provider or model whose time is over",
        "The provider takes no more fine-tuning jobs, or what it tuned would not answer any more. The message has the "
        "day and its source, and open weights of the same family that train on this machine with `provider: local`. "
        "Recipe, data and evaluation stay as they are.",
    ),
    "E308": CodeText(
        "a method that the model cannot be trained by",
        "The provider publishes by which methods each model can be trained. The message has its page where it says "
        "that this one is not among them; where nothing is published of the method, it says that. Choose another "
        "method, or another model.",
    ),
    "E309": CodeText(
        "a target that is open on conditions, or not for long",
        "A warning. The provider takes jobs only of some organisations, or stops soon, or will switch off what it "
        "tuned. The message has the day and its source. Whether your organisation is among those that may, only the "
        "provider knows: it refuses before anything costs.",
    ),
    "E310": CodeText(
        "a cost that nobody publishes",
        "limits.max_cost is set, and the catalogue has no price to hold against it; a price is never guessed. Look it "
        "up, and accept it with `allow_ignored: [limits.max_cost]`, or choose another target.",
    ),
    "E311": CodeText(
        "a cost above limits.max_cost",
        "The estimate at its upper end, or the price that the provider named before the start, is above the recipe's "
        "limit. Own machines are held against it too, where FT_GPU_HOUR_USD (or the price of power) says what they "
        "cost and their time is known. Nothing was started.",
    ),
    "E312": CodeText(
        "data that may not leave this machine",
        "`limits.data: local_only` stands against every hosted API: it trains on an upload.",
    ),
    "E313": CodeText(
        "a job that bills and that nobody has allowed",
        "A hosted API bills for training. On a terminal ft shows the price and asks; elsewhere it wants -y, or a "
        "recipe with limits.max_cost, which allows every job below it.",
    ),
    "E314": CodeText(
        "a deadline that has passed",
        "limits.deadline counts from the submission, with all waiting. What had not trained by then was cancelled, and "
        "the job counts as failed; a training that had ended is kept.",
    ),
    "E315": CodeText(
        "a training that has used up its limit",
        "Where FT_GPU_HOUR_USD says what an hour of a card costs, trainings on own machines are counted as they run. "
        "One that has cost more than limits.max_cost is cancelled, and the job counts as failed. What a hosted API "
        "bills is fixed before it starts, and held against the limit then.",
    ),
    "E316": CodeText(
        "a training that takes longer than limits.deadline",
        "Trainings of this base model at this target have taken so long here that even the fastest would not end "
        "in time; or, before one has ended here, the card's published speed does not allow it. Raise limits.deadline, "
        "train on fewer rows or epochs, or choose another target.",
    ),
    "E317": CodeText(
        "a context that is shorter than limits.min_context",
        "The tuned model reads fewer tokens in one request than the recipe asks for, or its provider does not publish "
        "how many. What is not published can be accepted with `allow_ignored: [limits.min_context]`.",
    ),
    "E318": CodeText(
        "a base model below limits.quality",
        "Its score is lower than the recipe asks for, the imported table has none for it, or no table of that name was "
        "imported. `ft catalogue scores` "
        "lists what was imported; ft brings no scores and reckons none. Accept it with `allow_ignored: "
        "[limits.quality]`.",
    ),
    "E319": CodeText(
        "a target that tunes no models",
        "It makes, runs or passes on models, and nobody can have one tuned there. The message has the ways that there "
        "are instead: mostly open weights that train on this machine, or another provider that tunes the same model.",
    ),
    "E320": CodeText(
        "a catalogue entry that was read long ago",
        "A warning. More than 90 days have passed since somebody read the page that a price, date or limit comes from. "
        "It may say something else by now. Look at the page; what has changed goes into a sheet of your own, which "
        "FT_CATALOGUE names (docs/catalogue.md).",
    ),
    "E321": CodeText(
        "a training that needs more memory than there is",
        "A warning; with `provider: auto` it rules own machines out. By the base model's config.json, weights, "
        "adapter, optimizer and a single row, its activations made again for the backward pass unless "
        "`local.gradient_checkpointing` is false, take more than `resources.memory` asks for, or than the largest "
        "card of this machine and of living workers has; or than this machine has, where there is no card and no "
        "other machine has a worker. Without a config.json only the weights are reckoned, by the parameters that the "
        "catalogue tells. `ft estimate recipe.yaml` shows what takes how much.",
    ),
    "E405": CodeText(
        "a credential that is not accepted",
        "The provider does not know the key, or the key may not do this. A job that the provider has goes on there; ft "
        "looks at it again when the key is right. Workers read keys when they start.",
    ),
    "E406": CodeText(
        "a service that has ended",
        "The provider answers 410, or that it takes no more jobs of this account: the service is gone for good. "
        "No retry helps. The recipe can train elsewhere.",
    ),
    "E407": CodeText(
        "a request that the provider refuses",
        "The message has the provider's own words and the request's id, which its support asks for. The same request "
        "would be refused again.",
    ),
    "E408": CodeText(
        "a quota or budget that is used up",
        "Not the pace but the sum: the provider takes no more jobs of this account until its budget is raised.",
    ),
    "E409": CodeText(
        "a create without an answer",
        "The connection ended before the answer came, so the job may exist. ft looks its run key up before it tries "
        "again, waits as long as the provider's list may lag, and keeps looking for an hour. docs/providers.md has the "
        "crash matrix.",
    ),
    "E410": CodeText(
        "too many requests",
        "The provider asked for fewer, or FT_REQUESTS_PER_S is reached. ft waits as long as it must, and goes on.",
    ),
    "E411": CodeText(
        "an answer that cannot be understood",
        "No JSON, or not what the API's contract says: mostly a proxy or a gateway that answers in the API's place.",
    ),
    "E412": CodeText(
        "a provider that is not set up",
        "A variable or a package is missing. `ft providers` shows what each one needs. Keys are read from the "
        "environment and kept nowhere.",
    ),
    "E413": CodeText(
        "training data that the provider refused",
        "Its own validation found a fault that ft did not see. The message has its words. `ft validate` checks "
        "everything that the provider publishes.",
    ),
    "E414": CodeText(
        "a value that this provider does not take",
        "A number out of its range, an option that it does not have, or a region that does not fit its address.",
    ),
    "E415": CodeText(
        "a job that ended at the provider in a way of its own",
        "It expired there, or ended in a state that the message names. Nothing runs any more.",
    ),
    "E416": CodeText(
        "not a list of fine-tuning jobs",
        "`ft import --from` takes what the vendor's API answers to a list of jobs: a JSON object with `data`, a JSON "
        "list, or one job a line. Each has id, model, status and training_file.",
    ),
    "E708": CodeText("no such provider", "`ft providers` lists those that are installed."),
    "E706": CodeText(
        "no such file at a provider",
        "Only files that ft has uploaded are listed and deleted; their names begin with `ft-`.",
    ),
    "E906": CodeText(
        "a sandbox that cannot be run so",
        "The name, the port or the fault is none that there is. `ft sandbox --help` has examples.",
    ),
}
