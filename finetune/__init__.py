"""`ft`: one recipe, any fine-tuning provider. The command line is `cli`; `wiring` joins the parts."""

__version__ = "0.1.0"
