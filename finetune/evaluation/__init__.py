"""How good a tuned model is: metrics, suites, intervals, gates. Needs the extra `eval`."""
