"""What the typed model cannot see in one value: names that must exist, ways through a flow, claims, files, secrets."""
