"""Stand-ins for gateways."""
