"""Where callers ask: one file a gateway. What they share is `calling`."""
