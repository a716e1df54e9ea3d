"""The Celery side, thin: `app` has the settings with their reasons, `tasks` the two tasks, `loop` the sweep."""
