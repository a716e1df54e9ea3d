"""The embedded OpenAI-compatible server: base models and their adapters, answered in this process.

    server   routes and their order              starlette
    run      a socket, signals, a clean end      uvicorn
    models   what there is to ask for
    protocol requests in, answers out, errors    plain data
    pool     base models in memory
    engine   one base model and its adapters     torch, transformers, peft: here and nowhere else
    adapters does this folder fit this base?
    text     token ids to text, piece by piece

Importing the package or `server` loads no torch; building the first engine does.
"""
