"""E85x, E86x: how good a model version is could not be measured."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    "E850": CodeText(
        "suite or rows cannot be used",
        "The file of a suite, or the rows that it names, is missing or broken. A suite is a YAML file with `name`, "
        "`rows`, `metrics`, `max_tokens` and `schema`; rows are JSON lines with `messages`, whose last one is the "
        "wanted answer, and may have `tools`, `schema`, `pattern` and `contains`. The message names the line.",
    ),
    "E851": CodeText(
        "no such metric or suite",
        "The name is that of no metric, or of no suite in the folder of suites. The message lists those there are. "
        "A suite elsewhere is named by the path of its YAML file, a task of lm-evaluation-harness as lm-eval:TASK.",
    ),
    "E852": CodeText(
        "rows do not say what the metric needs",
        "json_schema needs a `schema`, regex a `pattern`, tool_calls `tools` or wanted calls, and most others a wanted "
        "answer at the end of the row; a schema must be a JSON Schema that refers to nothing outside itself. Add what "
        "is missing to the rows, or choose other metrics.",
    ),
    "E853": CodeText(
        "package missing",
        "A package that the evaluation needs is not installed where it runs. Most come with "
        "`pip install 'ft-orchestrator[eval]'`, those for weights on this machine with `[local]`, "
        "lm-evaluation-harness with `pip install lm-eval`.",
    ),
    "E854": CodeText(
        "model cannot be asked",
        "The model that is evaluated, or the judge, did not answer: the address cannot be reached, the key is missing "
        "or refused, the name is not known there, memory ran out, or every question was refused. What may pass by "
        "itself is tried again several times before this is said.",
    ),
    "E855": CodeText(
        "answer cannot be read",
        "What came back is no chat completion, no figure, or no verdict of a judge on any row. An address without its "
        "version (/v1) answers with a page; broken weights compute no numbers; a judge must end with [[A]], [[B]] or "
        "[[C]].",
    ),
    "E856": CodeText(
        "request or result of an evaluation",
        "The request that starts an evaluation, or a result that was stored, does not have the layout that this "
        "version of ft writes: evaluate again, with the same version of ft on both sides. Or two versions on different "
        "bases were to be compared, both with weights here: only one base is loaded for an evaluation.",
    ),
    "E857": CodeText(
        "metric not possible for this model",
        "loss, perplexity and the tasks of lm-evaluation-harness need the probability of every token, which only "
        "weights on this machine tell; judge needs a model that judges. Leave the metric out for hosted models, or "
        "name a judge.",
    ),
    "E858": CodeText(
        "lm-evaluation-harness failed",
        "The harness does not know the task, could not fetch its data from the Hugging Face hub, or gives no score "
        "that is a mean over rows. `lm-eval ls tasks` prints its tasks; tasks of your own are YAML files in a folder.",
    ),
    "E859": CodeText(
        "evaluation failed unexpectedly",
        "Something happened that ft does not know. The evaluation's log says more; please report it with that log.",
    ),
    "E860": CodeText(
        "an evaluation waits for a card",
        "Where there are graphics cards, an evaluation that loads weights takes one, with the memory that the training "
        "asked for, so that it crowds out no training. All are taken now; it goes next, before trainings of its "
        "priority.",
    ),
    "E861": CodeText(
        "the base answers nowhere",
        "A version is held against its base, by its gate and for its proof, and at its provider nothing answers as "
        "that base: it is not among the models that are served to all, nobody has deployed it, and the deployment of "
        "a tuned model does not have it any more. Nothing was deployed for this promotion. A gate over an alias that "
        "has a version (`gate: {over: production}`, or `ft promote --over production`) needs no base; `ft eval MODEL "
        "--at URL` measures where both answer, and what it keeps proves a promotion with `--no-gate`. As a warning it "
        "is told before a training is paid for.",
    ),
}
