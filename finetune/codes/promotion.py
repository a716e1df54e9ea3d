"""E83x, E84x: proof, gates, and the way of a version to an alias."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E830": CodeText(
        "another model answered",
        "The gateway was asked for one deployment by its own name, with fallbacks off, and named another one as who "
        "answered, or named nobody. Typical causes: a default fallback that catches unknown names, a server that "
        "answers any name with its one model, two entries with the same id. The promotion was undone; nothing gets its "
        "calls.",
    ),
    "E831": CodeText(
        "answers as its base",
        "The gateway says that the right deployment answered, but the words are those of the base model. The adapter "
        "has no effect: it was loaded on another base, its name is passed over, or older weights are still in memory. "
        "The promotion was undone.",
    ),
    "E832": CodeText(
        "nothing to compare with",
        "A proof needs questions that the version and its base answer differently. `ft eval` finds and keeps such "
        "questions. This version was never measured, and the gateway cannot be asked for the base either.",
    ),
    "E834": CodeText(
        "the canary failed",
        "While the new version had a share of the calls, too many of our own test calls failed. All calls were given "
        "back to the version that had them before.",
    ),
    "E835": CodeText(
        "nothing to roll back to",
        "The alias has never pointed to another version, so there is no earlier traffic to restore.",
    ),
    "E836": CodeText(
        "no such gateway",
        "The gateway named in `register.gateways` or by `--gateway` is not installed, or its environment variables are "
        "not set where the command or the worker runs. docs/gateways.md lists what each needs.",
    ),
    "E837": CodeText(
        "no way to serve it there",
        "The version's weights are at a hosted provider that does not answer under a name of its own before the model "
        "is deployed there, or its artifact lacks what the name is made of. Deploy it at the provider, or promote it "
        "to the registry only.",
    ),
    "E838": CodeText(
        "the adapter has changed",
        "The files of the adapter do not have the digest that they were registered with: somebody has changed them, or "
        "the disk has. A version never changes, so it is not loaded. Restore the folder from a backup, or train again "
        "with `ft submit RECIPE --force`.",
    ),
    "E840": CodeText(
        "the gate is closed",
        "The version did not reach what the recipe's gate asks for: too small a gain, too large a loss on a guard "
        "suite, or too few rows to decide on. The reasons have all figures with their intervals. Nothing was changed. "
        "Train again, measure on more rows, or use `--no-gate` with a reason that you can defend.",
    ),
}
