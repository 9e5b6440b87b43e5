"""What an agent is worth: online, offline, with intervals."""
