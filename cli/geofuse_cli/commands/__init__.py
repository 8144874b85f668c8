"""One module a command; each holds a :class:`click.Command` called ``command`` and is imported when the command is used."""
