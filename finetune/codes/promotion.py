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
        "answers as another model",
        "The gateway says that the right deployment answered, but the words are those of the base model or of another "
        "version. The adapter has no effect: it was loaded on another base, its name is passed over, or older weights "
        "are still in memory. The promotion was undone.",
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
    "E841": CodeText(
        "another chat template",
        "The gateway was asked what it makes of some fixed conversations, and it is not what the training made of "
        "them: it writes them by another chat template. The model would be asked in a form that it has not learned, "
        "and answer worse without an error anywhere. The message says where the two differ first, and what to start "
        "the gateway with. Where only the token for a beginning differs, or may only the date differ that the template "
        "writes, it is a warning. `allow_ignored: [register.gateways]` in the recipe accepts another template.",
    ),
    "E842": CodeText(
        "chat template not compared",
        "A warning: whether the gateway writes conversations as the training does is not known. The base's tokenizer "
        "is not on this machine, or is another one now than when the version was trained; or the gateway does not tell "
        "what it makes of a conversation (Ollama, older servers), or has not loaded the base yet (llama-server, which "
        "is asked again when a version is registered). See to it that the gateway uses the base's own template.",
    ),
    "E843": CodeText(
        "a running cost",
        "The provider wants the tuned model deployed before it answers, and bills each hour of that, whether anybody "
        "asks it or not. So nothing is deployed unless the recipe (`register: {max_hosting: 3 USD}`) or `ft promote "
        '--max-hosting "3 USD"` agrees to that much an hour. A price that nobody publishes is never agreed to: say '
        "what your contract has in AZURE_HOSTING_USD, FIREWORKS_HOSTING_USD or TOGETHER_HOSTING_USD. As a warning it "
        "tells what will be billed.",
    ),
    "E844": CodeText(
        "being deployed, or undeployed",
        "The provider is deploying the tuned model, which takes minutes. The promotion waits without counting that as "
        "a failure, for two hours at most; then the deployment is undone and the promotion ends as failed. Or it is "
        "taking a deployment away and has not said that it is gone: it stays in our books, and the next look asks "
        "again.",
    ),
    "E845": CodeText(
        "nothing to export, or to fetch",
        "The version has no adapter on this machine. Its weights are at a hosted provider: `ft models fetch` brings "
        "them here where it hands them out, and not while the version answers from a deployment there. Or `ft models "
        "gc --retired` has removed the files; the version itself stays in the books.",
    ),
    "E846": CodeText(
        "the place cannot be used",
        "An export goes to a new folder, or to an empty prefix of a bucket (`s3://bucket/prefix`, `gs://bucket/prefix`)"
        ". Nothing is ever overwritten, because somebody may use what is there. Choose another place with `--out`.",
    ),
    "E847": CodeText(
        "the merged model was refused",
        "The base on this machine is not the one that the adapter was trained on, or the merged model, loaded again "
        "from the disk, does not give the logits that base and adapter give, by more than rounding explains. Such a "
        "model would answer wrongly without a word, so it was not kept.",
    ),
    "E848": CodeText(
        "the export cannot be written",
        "The disk or the bucket did not take all files. What had been written was taken away again, and the place is "
        "as it was: mend what the message names and repeat the command.",
    ),
    "E849": CodeText(
        "the merge ended without a result",
        "Merging runs in a process of its own, in fp32 on the processor: four bytes of memory for each of the base's "
        "parameters. The process was killed or crashed before it could say why; `merge.log` in the logs folder of "
        "FT_HOME has its last words. An export as `hf` needs no such memory.",
    ),
}
