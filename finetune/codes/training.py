"""E6xx: the local trainer."""

from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
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
        "says `local: {trust_remote_code: true}`. Read the code first, and take a copy in a folder so that it "
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
        'The trainer could not read the prepared data, or a line in it is no row of the method: `{"messages": [...]}` '
        'for sft, `{"prompt": [...], "chosen": [...], "rejected": [...]}` for dpo. '
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
        "No row has an assistant message with a weight, or of preferences two answers that differ, within "
        "`training.max_seq_length` tokens. Raise it, or check the data with `ft validate`.",
    ),
    "E613": CodeText(
        "unknown target module",
        "A name in `lora.target_modules` is no linear layer of this base model. The message lists the "
        "layers there are; `all-linear` takes them all. Experts that a model keeps in one tensor are none, nor are the "
        "layers of the same names beside them: PEFT does not tell the two apart.",
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
        "Micro-batches are halved when memory runs out, and where one example does not fit its activations are made "
        "again for the backward pass instead of kept, unless `local.gradient_checkpointing` is false. That changes "
        "nothing in the result, but not even so one example fits. Held-out rows are measured in smaller groups, down "
        "to one. Lower `training.max_seq_length` or `lora.r`, use `local: {precision: bf16}`, or a machine with more "
        "memory.",
    ),
    "E622": CodeText(
        "trainer cannot write",
        "A checkpoint, the adapter or a built-in base model did not reach the disk: it is full, read-only or "
        "gone. When it is full, ft tries again some times with pauses: make room, and training goes on from the last "
        "checkpoint. Else fix the permissions or the disk and submit again.",
    ),
    "E623": CodeText(
        "an adapter that is not what was reported",
        "Before an adapter is kept for good its digest is compared with the one that the trainer has reported. Where "
        "they differ it is not kept: another worker has taken the run over meanwhile, or the disk is failing.",
    ),
    "E630": CodeText(
        "a trainer that dies again and again",
        "The trainer, or its worker, ended five times in a row without a word or a step further. Signal 9 is mostly "
        "the system's answer to a lack of memory: lower local.micro_batch_size or training.max_seq_length, or take a "
        "smaller base model. What it said is in FT_HOME/runs/RUN_KEY/trainer.log.",
    ),
    "E699": CodeText(
        "trainer failed unexpectedly",
        "A fault in ft or in a library under it ended the trainer. Its log in the run's folder has the "
        "details; please report it with that log.",
    ),
}
