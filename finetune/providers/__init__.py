"""One file a provider. Each has `build(kit) -> Provider`, named by an entry point of the group `ft.providers`."""
