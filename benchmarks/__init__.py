"""Every speed that the documents claim, as a command."""
